#!lua flags=allow-oom
-- include: clock args queueing telling leases ending
-- Revoke the next jobs that wait in a queue, or that are scheduled for it.
--
-- KEYS  none (they follow from the queue)
-- ARGV  queue, 'queued' or 'scheduled', most entries to take out, most seconds
--       the jobs are kept
-- returns  {entries taken out, jobs revoked}
--
-- A million revoked jobs, each with a kilobyte more than before, would fill the server
-- that somebody wants to empty. So they go sooner; of the stream only those need to
-- hear who wait for it now; and no error is stored, which is read as "revoked", too: a
-- field of over 64 bytes would make the hash three times as large.

local STREAM_KEPT = 5

local queue, wanted, most, kept = arg(), arg(), count(), arg()

local function next_id()
  local set, id = K.scheduled .. queue, nil
  if wanted == 'scheduled' then
    id = redis.pcall('ZPOPMIN', set)[1]
  else
    id = redis.pcall('LPOP', K.ready .. queue)
    if type(id) ~= 'string' then id = redis.pcall('LPOP', K.queue .. queue) end
  end
  return type(id) == 'string' and id or nil
end

-- Of an entry that is only stale, or of no job, nothing else is to be done.
local function is_waiting(id)
  local row = redis.pcall('HMGET', K.job .. id, 'status', 'tq_execution')
  if row.err or row[1] ~= wanted then return false end
  return not (row[2] and redis.call('ZSCORE', K.wip .. queue, id .. ':' .. row[2]))
end

local taken, revoked = 0, 0
while taken < most do
  local id = next_id()
  if not id then break end
  taken = taken + 1
  if is_waiting(id) then
    end_job(id, queue, 'canceled', {}, {})
    redis.call('EXPIRE', K.job .. id, kept, 'LT')
    redis.call('EXPIRE', K.results .. id, STREAM_KEPT, 'LT')
    redis.call('ZADD', K.canceled .. queue, 'XX', 'LT', seconds(now + kept), id)
    revoked = revoked + 1
  end
end
return {taken, revoked}
