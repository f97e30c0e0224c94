-- The server's clock, so that hosts with different clocks agree.
--
-- Times leave this file as text: Lua's own number to text keeps 14 digits, and
-- numbers returned to a client are cut to integers.

local function read_clock()
  local t = redis.call('TIME')
  return t[1] + t[2] / 1000000
end

local now = read_clock()

local function seconds(s)
  return string.format('%.6f', s)
end

-- RQ's time stamps. Civil date from days: H. Hinnant, "chrono-compatible
-- low-level date algorithms", days_from_civil reversed.
local function stamp(s)
  local whole = math.floor(s)
  local micro = math.floor((s - whole) * 1000000)
  local days = math.floor(whole / 86400)
  local rest = whole - days * 86400
  local z = days + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524)
    - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local day = doy - math.floor((153 * mp + 2) / 5) + 1
  local month = mp < 10 and mp + 3 or mp - 9
  local year = yoe + era * 400 + (month <= 2 and 1 or 0)
  return string.format('%04d-%02d-%02dT%02d:%02d:%02d.%06dZ', year, month, day,
    math.floor(rest / 3600), math.floor(rest % 3600 / 60), rest % 60, micro)
end

-- An instant given as '' (none), '+SECONDS' from now, or epoch seconds.
local function instant(text)
  if text == '' then return nil end
  if string.sub(text, 1, 1) == '+' then return now + tonumber(string.sub(text, 2)) end
  return tonumber(text)
end
