-- Welcome and block lists: of the site file, and (block) of `mastio greylist block`. Of two lists that
-- name a sender, the one that does it more closely counts: address, domain, network; block before welcome.
-- A welcome address or domain must be proven by SPF or DKIM: everybody can write it into an envelope.
-- Of several domains that a message goes to, one is enough to block its sender; all must welcome it.
local house = dofile("/etc/rspamd/mastio/house.lua")
local lua_maps = require "lua_maps"
local NAME, WELCOME = "BLOCKED_SENDER", "WELCOME_SENDER"

local live = rspamd_config:add_map({ url = "/var/lib/mastio/filter/block", type = "map", description = "blocked" })
local live_networks = rspamd_config:add_map({
  url = "/var/lib/mastio/filter/block-networks", type = "radix", description = "blocked networks",
})

local function known(list)
  local found = { names = {}, networks = nil }
  for _, name in ipairs(list.senders) do found.names[name] = true end
  if list.networks[1] then
    found.networks = lua_maps.map_add_from_ucl(list.networks, "radix", "networks of the site file")
  end
  return found
end

local lists = {}
for _, one in pairs(house.rules.domains) do lists[one] = { known(one.welcome), known(one.block) } end
lists[house.rules.site] = { known(house.rules.site.welcome), known(house.rules.site.block) }

-- How closely the list names the sender: 3 address, 2 domain, 1 network, 0 not at all.
local function closeness(task, is_named, networks, proven)
  local best = 0
  for _, person in ipairs({ house.sender(task), house.author(task) }) do
    local address, domain = (person.addr or ""):lower(), (person.domain or ""):lower()
    if domain ~= "" and (not proven or house.speaks_for(task, domain)) then
      if is_named(address) then best = math.max(best, 3) end
      for each in house.upwards(domain) do
        if is_named(each) then best = math.max(best, 2) end
      end
    end
  end
  local ip = task:get_ip()
  if best == 0 and networks and ip and ip:is_valid() and networks:get_key(ip) then best = 1 end
  return best
end

local function named_in(list)
  return function(name) return list.names[name] end
end

-- What one domain's lists and the site's say of the sender: "block", "welcome" or nothing.
local function verdict(task, leaning)
  local welcome, block = 0, closeness(task, function(name) return live:get_key(name) end, live_networks)
  for _, lists_of in ipairs({ lists[leaning], lists[house.rules.site] }) do
    welcome = math.max(welcome, closeness(task, named_in(lists_of[1]), lists_of[1].networks, true))
    block = math.max(block, closeness(task, named_in(lists_of[2]), lists_of[2].networks))
  end
  if block > 0 and block >= welcome then return "block" end
  if welcome > 0 then return "welcome" end
end

house.rule(NAME, 3, function(task)
  if house.from_inside(task) then return end
  local welcome = true
  for _, leaning in ipairs(house.leanings(task)) do
    local said = verdict(task, leaning)
    if said == "block" then return house.refuse(task, NAME, "its sender is not wanted here") end
    welcome = welcome and said == "welcome"
  end
  if welcome then task:insert_result(WELCOME, 1.0) end
end)
rspamd_config:set_metric_symbol({ name = WELCOME, score = -100.0, group = "mastio" })
