-- What a message is about, as far as words tell: two different words of a topic count. How much is in the
-- site file, `[filter.topics]`: a pharmacy's mail is about drugs, and that is no sign of spam.
local house = dofile("/etc/rspamd/mastio/house.lua")
local NAME, NEEDED = "TOPICS", 2

local function words(task)
  local text = { (task:get_subject() or ""):lower() }
  for _, part in ipairs(task:get_text_parts() or {}) do
    local content = part:get_content("content_oneline") or part:get_content()
    if content then table.insert(text, tostring(content):sub(1, 100000):lower()) end
  end
  return " " .. table.concat(text, " "):gsub("[^%w]+", " ") .. " "
end

local id = rspamd_config:register_symbol({
  name = NAME, type = "normal", score = 0.0, group = "mastio",
  callback = function(task)
    if house.from_inside(task) then return end
    local text, weights = words(task), house.strictest(task).topics
    for topic, list in pairs(house.rules.topics) do
      local seen = {}
      for _, word in ipairs(list) do
        if text:find(" " .. word .. " ", 1, true) then table.insert(seen, word) end
      end
      local weight = weights[topic] or 1.0
      if #seen >= NEEDED and weight > 0 then
        task:insert_result("TOPIC_" .. topic:upper(), weight, table.concat(seen, ","))
      end
    end
  end,
})
for topic in pairs(house.rules.topics) do
  rspamd_config:register_symbol({
    name = "TOPIC_" .. topic:upper(), type = "virtual", parent = id, score = 2.5, group = "mastio",
  })
end
