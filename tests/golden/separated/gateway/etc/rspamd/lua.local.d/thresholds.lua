-- From which scores on a message is Junk, or refused, where a domain has scores of its own. Not by settings.conf: of
-- several rules that fit, Rspamd takes one. Before all filters: they stop where a message is refused anyway.
local house = dofile("/etc/rspamd/mastio/house.lua")
local lua_util = require "lua_util"

rspamd_config:register_symbol({
  name = "THRESHOLDS", type = "prefilter", priority = lua_util.symbols_priorities.top, group = "mastio",
  callback = function(task)
    local most = house.strictest(task)
    if most == house.rules.site then return end  -- actions.conf
    task:set_settings({
      actions = { reject = most.spam_reject_score, ["add header"] = most.spam_junk_score },
    })
  end,
})
