-- Who sends for a user writes as that user. The store has proven that the envelope sender is an address
-- of the account that logged in; here the address that readers see, From: (RFC 5322, 3.6.2), must be
-- the same one, in any case of letters, with any +tag.
--
-- Only for mail from the store whose envelope sender is in a domain of the site: null senders (RFC 5321,
-- 4.5.5) and what Sieve or a forward passes on for strangers go through. Of what a user's script writes itself, which
-- has the null sender too, the store has looked at From: (sieve_send.py); of such mail, this alone is signed.
local rspamd_ip = require "rspamd_ip"
local rspamd_util = require "rspamd_util"

-- Pushed by mastio with the accounts, "example.org OK" a line. Rspamd sees a change within half a minute.
local domains = rspamd_config:add_map({
  url = "/var/lib/mastio/recipients/domains", type = "map", description = "the domains of the site",
})

local stores = {}
for _, address in ipairs({ "10.77.201.10", "fd6d:6173:7469:201::a", }) do
  stores[rspamd_ip.from_string(address):to_string()] = true
end

-- An address as the directory has it: lower case, no tag.
local function plain(address)
  return (address:lower():gsub("%+[^@]*@", "@"))
end

-- Mail programs differ in what they show of an odd From:, so all in it that looks like an address (in the
-- name, in a comment, without brackets) must be the sender's. Not task:get_from(): Rspamd rewrites that.
local function why_not(task, sender)
  local raw = task:get_header_raw("From")
  local authors = raw and rspamd_util.parse_mail_address(raw, task:get_mempool()) or {}
  if task:get_header_count("From") ~= 1 or #authors ~= 1 then
    return "there must be one From: with one address"
  end
  local own = plain(sender)
  local foreign = plain(authors[1].addr or "") ~= own
  for word in task:get_header("From"):gmatch('[^%s<>()",:;]+@[^%s<>()",:;]+') do
    foreign = foreign or plain(word) ~= own
  end
  return foreign and "From: must hold the address that you send with, " .. own .. ", and no other"
end

rspamd_config:register_symbol({
  name = "SENDER_IS_NOT_AUTHOR",
  type = "prefilter",
  callback = function(task)
    local ip = task:get_ip()
    local sender = (task:get_from({ "smtp", "orig" }) or {})[1]
    if not (ip and ip:is_valid() and stores[ip:to_string()]) then return end
    if sender and not domains:get_key((sender.domain or ""):lower()) then return end
    -- The null sender is one, with nothing in it; none is one that Rspamd cannot read.
    local reason = not sender and "nobody can read its envelope's sender" or why_not(task, sender.addr)
    if reason then
      task:insert_result("SENDER_IS_NOT_AUTHOR", 0)
      task:set_pre_result({
        action = "reject", message = "Message refused: " .. reason, module = "sender_is_author",
      })
    end
  end,
})

-- Whether the store says, in its own trace line, that a user's script wrote it (ANSWER in sieve_send.py). That line is
-- on top, whatever came before; only what users submit has none, and that has a sender.
local function is_answer(task)
  local trace = (task:get_header_full("Received") or {})[1]
  return trace ~= nil and trace.decoded:match("^%s*from answer %(") ~= nil
end

rspamd_config:add_condition("DKIM_SIGNED", function(task)
  local sender = (task:get_from({ "smtp", "orig" }) or {})[1]
  return (sender ~= nil and (sender.addr or "") ~= "") or is_answer(task)
end)
