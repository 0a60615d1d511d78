# The framework's files, embedded into the binary; paths below lua/.
set(MOONSHINE_LUA_FILES
  )
