#include "cli/command.h"

int main(int argc, char **argv)
{
    return moon_cli_main(argc, argv);
}
