#!lua flags=no-writes
-- include: args
-- Read jobs and their results as they are at one moment.
--
-- KEYS  none (they follow from the jobs)
-- ARGV  counted list of ids
-- returns  for each {fields and values of its hash, id of its result stream's last
--          entry, names and values of that}; the first empty where there is no hash, the
--          others '0-0' and empty where there is no stream
--
-- Never its arguments, which may be large.

local FIELDS = {
  'status', 'origin', 'worker_name', 'enqueued_at', 'started_at', 'ended_at',
  'created_at', 'description', 'tq_task', 'tq_content', 'tq_options', 'tq_retries',
  'tq_recoveries', 'tq_state', 'tq_info', 'tq_sig_info', 'tq_ignored', 'tq_error',
  'tq_runtime', 'tq_children', 'tq_parent', 'tq_root', 'tq_eta', 'tq_expires',
  'tq_forgotten', 'retries_left', 'retry_intervals', 'timeout', 'tq_headers',
  'tq_carried', 'tq_ended', 'tq_parked', 'tq_entry',
}

-- A key of another type is no job of anybody's.
local function ask(...)
  local reply = redis.pcall(...)
  if reply.err and string.sub(reply.err, 1, 9) ~= 'WRONGTYPE' then error(reply) end
  return reply
end

local function hash(key)
  local values = ask('HMGET', key, unpack(FIELDS))
  local out = {}
  for i, name in ipairs(FIELDS) do
    if values[i] then
      out[#out + 1] = name
      out[#out + 1] = values[i]
    end
  end
  return out
end

local function last_entry(key)
  local entries = ask('XREVRANGE', key, '+', '-', 'COUNT', 1)
  return unpack(entries[1] or {'0-0', {}})
end

local out = {}
for i, id in ipairs(list()) do
  out[i] = {hash(K.job .. id), last_entry(K.results .. id)}
end
return out
