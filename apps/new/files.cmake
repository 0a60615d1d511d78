# What `moonshine new` writes; paths below apps/new/, a folder's files together.
set(MOONSHINE_NEW_FILES
  .gitignore
  .luacheckrc
  .luarc.json
  README.md
  app.lua
  config.lua
  deploy/nginx.conf
  deploy/systemd.conf
  lib/moon.lua
  public/moon.svg
  public/style.css
  spec/app_spec.lua
  views/error.html
  views/home.html
  views/layout.html
  )
