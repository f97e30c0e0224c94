#!lua flags=allow-oom
-- include: clock args queueing telling leases ending storing
-- Store the success of a plain rq job with repeats left, and let it run again, as RQ's
-- Repeat.schedule does (rq 2.12). What was revoked while it ran does not.
--
-- KEYS  none (they follow from the job)
-- ARGV  an end as lib/storing.lua reads it
-- returns  1 stored, 2 this execution had stored it before, 0 refused: it has lost its
--          lease

local ended = read_end()
local id, queue = ended.id, ended.queue
local key = K.job .. id

-- Seconds to the next run. RQ counts intervals from the end: with two repeats left it
-- is the second one.
local function next_interval(intervals, left)
  local read, found = pcall(cjson.decode, intervals or '')
  if not read or type(found) ~= 'table' then return 0 end
  return math.min(math.max(number(found[math.min(left, #found)], 0), 0), TTL_MOST)
end

local function wait_again(left, intervals, ttl)
  local interval = next_interval(intervals, left)
  local relations = {key .. K.dependents_suffix,
    K.dependencies_prefix .. id .. K.dependencies_suffix}
  for _, kept in ipairs({key, unpack(relations)}) do redis.call('PERSIST', kept) end
  -- RQ's ttl: how long it may wait.
  if ttl > 0 then redis.call('EXPIRE', key, math.min(math.floor(ttl), TTL_MOST)) end
  redis.call('HSET', key, 'repeats_left', string.format('%d', left - 1))
  if interval > 0 then
    redis.call('HSET', key, 'status', 'scheduled', 'tq_eta', seconds(now + interval))
    schedule(queue, id, now + interval)
  else
    redis.call('HSET', key, 'status', 'queued', 'enqueued_at', stamp(now))
    push(queue, id, false)
  end
end

local code = store_end(ended)
local row = redis.pcall('HMGET', key, 'repeats_left', 'repeat_intervals', 'ttl',
  'tq_revoked', 'tq_execution', 'tq_ended', 'status')
if row.err then return code end
if code == 0 and row[5] == ended.execution and row[6]
  and (row[7] == 'queued' or row[7] == 'scheduled') then return 2 end
local left = number(row[1], 0)
-- No job has that many (COUNT_MOST in job.py): it would never end.
if left > 2147483648 then left = 0 end
if code == 1 and left > 0 and not row[4] then wait_again(left, row[2], number(row[3], 0)) end
return code
