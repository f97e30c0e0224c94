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

local stamped_second, stamped_text

-- RQ's time stamps. Civil date from days: H. Hinnant, "chrono-compatible
-- low-level date algorithms", days_from_civil reversed; (a - a % b) / b is its
-- whole-numbered division, without a call of a function.
local function stamp(s)
  local whole = s - s % 1
  if whole ~= stamped_second then
    local rest = whole % 86400
    local z = (whole - rest) / 86400 + 719468
    local doe = z % 146097
    local left = doe - (doe - doe % 1460) / 1460 + (doe - doe % 36524) / 36524
      - (doe - doe % 146096) / 146096
    local yoe = (left - left % 365) / 365
    local doy = doe - 365 * yoe - (yoe - yoe % 4) / 4 + (yoe - yoe % 100) / 100
    local fifths = 5 * doy + 2
    local mp = (fifths - fifths % 153) / 153
    local before = 153 * mp + 2
    local day = doy - (before - before % 5) / 5 + 1
    local month = mp < 10 and mp + 3 or mp - 9
    local year = yoe + (z - doe) / 146097 * 400 + (month <= 2 and 1 or 0)
    local of_hour, of_minute = rest % 3600, rest % 60
    stamped_second = whole
    stamped_text = string.format('%04d-%02d-%02dT%02d:%02d:%02d.', year, month, day,
      (rest - of_hour) / 3600, (of_hour - of_minute) / 60, of_minute)
  end
  return stamped_text .. string.format('%06dZ', (s - whole) * 1000000)
end

-- An instant given as '' (none), '+SECONDS' from now, or epoch seconds.
local function instant(text)
  if text == '' then return nil end
  if string.sub(text, 1, 1) == '+' then return now + tonumber(string.sub(text, 2)) end
  return tonumber(text)
end
