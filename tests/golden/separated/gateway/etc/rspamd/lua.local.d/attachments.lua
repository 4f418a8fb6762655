-- Attachments that the site's policy names, by what is in them, not by what they are called alone. What
-- they get is in the site file: refused, filed away by the store (X-Mastio-Quarantine), or only marked
-- (X-Mastio-Attachment). Mail that leaves the site has a policy of its own, and is held by Postfix here
-- (X-Mastio-Held): there is no store behind it. The headers are ours: Postfix removes them from all that
-- comes in, and from all that goes out.
local house = dofile("/etc/rspamd/mastio/house.lua")
local tnef = dofile("/etc/rspamd/mastio/tnef.lua")
local lua_mime = require "lua_mime"
local rspamd_regexp = require "rspamd_regexp"
local NAME = "ATTACHMENTS"
local UNREAD = "an archive that nobody here can look into"
local ENCODED = "a file encoded in a way that nobody here can look into"

local dangerous, documents = {}, {}
for _, extension in ipairs(house.rules.dangerous) do dangerous[extension] = true end
for _, extension in ipairs(house.rules.macros) do documents[extension] = true end

-- Where LibreOffice keeps macros in a document; the same for ClamAV is in rules.py (deeper).
local OPENDOCUMENT = { "^basic/.+%.xml$", "^scripts/python/.", "^scripts/beanshell/." }

local function has_macros(path)
  for _, place in ipairs(OPENDOCUMENT) do
    if path:find(place) then return true end
  end
  return path:find("vbaproject%.bin$") ~= nil
end

-- Windows drops dots and blanks at the end, and a right-to-left mark (U+202E) turns "exe.pdf" round.
local function judge(name, found)
  if name:find("\226\128\174", 1, true) then
    found.dangerous_attachments = "a file name that is turned round"
  end
  local plain = name:lower():gsub("[%s.%z]+$", "")
  local extension = plain:match("%.([%w-]+)$") or ""
  if dangerous[extension] then
    local former = plain:match("%.([%w-]+)%.[%w-]+$")
    found.dangerous_attachments = former and #former <= 4
      and "a file of type ." .. extension .. " that looks like ." .. former
      or "a file of type ." .. extension
  end
  if documents[extension] or has_macros(plain) then
    found.macro_documents = "a document with macros"
  end
end

local MACROS = "_\0V\0B\0A\0_\0P\0R\0O\0J\0E\0C\0T\0"  -- a stream's name in an OLE2 file, UTF-16

-- Where names are hidden too, no file is listed that could be called encrypted; nor is any of what Rspamd cannot take
-- apart. A 7z that is cut off is no archive to it at all. What ClamAV cannot take apart (any RAR): UNREAD in rules.py.
local SEVENZIP = "7z\188\175'\28"

local function whole(archive, files, found)
  if archive:is_encrypted() then
    found.encrypted_archives = "an archive with a password"
  elseif archive:is_unreadable() or #files == 0 then
    found.encrypted_archives = UNREAD
  end
end

-- A file in the text itself (uuencode): the webmail finds it, wherever in a line it begins, and so do mail programs.
-- Rspamd does not look for it, and ClamAV only for what begins as the manual has it. Of many the first names are judged.
local BEGIN = rspamd_regexp.create("/begin [0-7]{3,4} [^\\r\\n]+\\r?\\n/")
local END = rspamd_regexp.create("/(?:`|\\n ?)\\r?\\nend[ \\t]*\\r?(?:\\n|$)/")

local function look_within(text, found)
  if not text or BEGIN:matchn(text, 1, true) == 0 or END:matchn(text, 1, true) == 0 then return end
  found.encrypted_archives = found.encrypted_archives or ENCODED
  for _ = 1, 1000 do
    local at = text:find("begin ")
    if not at then return end
    text = text:sub(at + 6)
    local name = text:sub(1, 1000):str():match("^[0-7]+ ([^\r\n]+)")
    if name then judge(name, found) end
  end
end

-- Where ClamAV stops, or takes another way, and other readers go on: behind the end of a block of base64, at a blank behind
-- a line that goes on (RFC 2045, 6.7 and 6.8), and at what it takes for the beginning of uuencode.
local GOES_ON = {
  ["base64"] = rspamd_regexp.create("/=[^A-Za-z0-9+\\/]*[A-Za-z0-9+\\/]|(?:^|\\n)b[Ee][Gg][Ii][Nn] [0-9]{3} /"),
  ["quoted-printable"] = rspamd_regexp.create("/=(?:[ \\t]|\\r\\r)[ \\t\\r]*\\n|(?:^|\\n)b[Ee][Gg][Ii][Nn] [0-9]{3} /"),
}

local AS_IS = { ["7bit"] = true, ["8bit"] = true, ["binary"] = true }

-- A part's encoding has names that not all scanners know (uue); others are read alike only when they stand alone
-- (RFC 2045, 6.1): of "base64 (x)" or of two fields that contradict each other the store makes what it likes.
local function is_encoded_strangely(part)
  local first
  for _, header in ipairs(part:get_header_full("Content-Transfer-Encoding") or {}) do
    local way = house.trim((header.value or ""):lower())
    first = first or way
    if way ~= first and not (AS_IS[way] and AS_IS[first]) or way:find("uue") then return true end
    if way:find("base64") and way ~= "base64" then return true end
    if way:find("quoted") and way ~= "quoted-printable" then return true end
  end
  local stray, content = GOES_ON[first], part:get_raw_content()
  return stray and content and not part:is_multipart() and stray:matchn(content, 1, true) > 0
end

local TNEF = "x\159>\""

local function unwrap(content, found)
  local names, whole = tnef.names(content:str())
  for _, name in ipairs(names) do judge(name, found) end
  if not whole then found.encrypted_archives = UNREAD end
end

local function look(part, found)
  local name = part:get_filename()
  if name and name ~= "" and not part:is_message() then judge(name, found) end
  local sort = (part:get_detected_ext() or ""):lower()
  if dangerous[sort] then found.dangerous_attachments = found.dangerous_attachments or "a program" end
  if part:is_archive() then
    local archive = part:get_archive()
    local files = archive:get_files_full() or {}
    whole(archive, files, found)
    for _, inner in ipairs(files) do
      judge(inner.name or "", found)
      if inner.encrypted then found.encrypted_archives = "an archive with a password" end
    end
  elseif not part:is_multipart() then
    local content = part:get_content()  -- no string, and never equal to one
    if content and content:sub(1, 4):str() == "\208\207\17\224" and content:find(MACROS) then
      found.macro_documents = "a document with macros"
    end
    if content and content:sub(1, #SEVENZIP):str() == SEVENZIP then
      found.encrypted_archives = UNREAD
    end
    if content and content:sub(1, #TNEF):str() == TNEF then unwrap(content, found) end
  end
  if not part:is_multipart() then look_within(part:get_content(), found) end
  if is_encoded_strangely(part) then found.encrypted_archives = found.encrypted_archives or ENCODED end
end

-- What ClamAV found deeper, in archives within archives; see antivirus.conf. The last two are Rspamd's names.
local DEEPER = {
  CLAM_DANGEROUS = { "dangerous_attachments", "a dangerous file in an archive" },
  CLAM_MACROS = { "macro_documents", "a document with macros" },
  CLAM_VIRUS_MACRO = { "macro_documents", "a document with macros" },
  CLAM_VIRUS_ENCRYPTED = { "encrypted_archives", "an archive with a password" },
  CLAM_UNREAD = { "encrypted_archives", UNREAD },
  CLAM_LARGE = { "encrypted_archives", "an archive not looked through to the end" },
  CLAM_PARTIAL = { "encrypted_archives", "an archive not looked through to the end" },
}

-- The policies that count for a message, and whether it leaves the site. SMTP knows one answer: what goes to
-- colleagues and to others has both.
local function policies(task)
  local found, leaves = {}, false
  local inside = house.from_inside(task)
  for _, recipient in ipairs(task:get_recipients("smtp") or {}) do
    local out = inside and not house.is_ours(recipient.domain)
    found[out and "leaving" or "incoming"] = true
    leaves = leaves or out
  end
  return next(found) and found or { incoming = true }, leaves
end

local STRICT = { "reject", "quarantine", "mark" }

-- The strictest of what the policies say.
local function treatment(kind, counting)
  for _, one in ipairs(STRICT) do
    for policy in pairs(counting) do
      if house.rules.attachments[policy][kind] == one then return one end
    end
  end
end

house.rule(NAME, 2, function(task)
  local found = {}
  for _, part in ipairs(task:get_parts() or {}) do look(part, found) end
  look_within(task:get_rawbody(), found)
  for symbol, what in pairs(DEEPER) do
    if task:has_symbol(symbol) then found[what[1]] = found[what[1]] or what[2] end
  end
  local counting, leaves = policies(task)
  local by = { reject = {}, quarantine = {}, mark = {} }
  for kind, reason in pairs(found) do table.insert(by[treatment(kind, counting)], reason) end
  for _, reasons in pairs(by) do table.sort(reasons) end
  if by.reject[1] then
    return house.refuse(task, NAME, "it has " .. table.concat(by.reject, " and "))
  end
  local headers = {}
  for name, header in pairs({
    quarantine = leaves and "X-Mastio-Held" or "X-Mastio-Quarantine",
    mark = "X-Mastio-Attachment",
  }) do
    if by[name][1] then
      headers[header] = table.concat(by[name], "; ")
      task:insert_result(NAME, 0.0, name .. ": " .. headers[header])
    end
  end
  if next(headers) then lua_mime.modify_headers(task, { add = headers }) end
end)
