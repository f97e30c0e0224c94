#!lua flags=allow-oom
-- include: clock args queueing telling leases ending walking
-- Revoke the next jobs of a queue that wait in one place, except those that came after
-- the first call.
--
-- KEYS  none (they follow from the queue)
-- ARGV  queue, place ('ready', 'queue', 'scheduled' or 'deferred'), time stamp of the
--       first call ('' in that), the last id that stays ('' at first; not for lists),
--       most entries to look at, most seconds the jobs are kept
-- returns  {time stamp of the first call, the last id that stays, entries looked at,
--          jobs revoked}
--
-- A million revoked jobs, each with a kilobyte more than before, would fill the server
-- that somebody wants to empty. So they go sooner; of the stream only those need to
-- hear who wait for it now; and no error is stored, which is read as "revoked", too: a
-- field of over 64 bytes would make the hash three times as large.

local STREAM_KEPT = 5
local PLACES = {
  ready = K.ready, queue = K.queue, scheduled = K.scheduled, deferred = K.deferred,
}
local STATUS = {
  ready = 'queued', queue = 'queued', scheduled = 'scheduled', deferred = 'deferred',
}

local queue, place, begun, last, most, kept = arg(), arg(), arg(), arg(), count(), arg()
if begun == '' then begun = stamp(now) end
local key = PLACES[place] .. queue

-- Of an entry that is only stale, or of no job, nothing is to be done.
-- returns 'waits', 'later' or 'stale'; name of the task it is parked for, or false
local function look(id)
  local came = STATUS[place] == 'queued' and 'enqueued_at' or 'created_at'
  local row = redis.pcall('HMGET', K.job .. id, 'status', 'tq_execution', came, 'tq_parked',
    'tq_entry')
  if row.err or row[1] ~= STATUS[place] or row[5] then return 'stale' end
  if row[2] and redis.call('ZSCORE', K.wip .. queue, id .. ':' .. row[2]) then
    return 'stale'
  end
  return is_later(row[3], begun) and 'later' or 'waits', row[4]
end

local function revoke(id)
  end_job(id, queue, 'canceled', {'origin', queue}, {})
  redis.call('EXPIRE', K.job .. id, kept, 'LT')
  redis.call('EXPIRE', K.results .. id, STREAM_KEPT, 'LT')
  redis.call('ZADD', K.canceled .. queue, 'XX', 'LT', seconds(now + kept), id)
end

local function purge_list()
  local looked, revoked = 0, 0
  while looked < most do
    local id = redis.call('LPOP', key)
    if not id then break end
    looked = looked + 1
    local found = look(id)
    if found == 'later' then
      -- Out of the way, and read before the queue: the order stays.
      redis.call('RPUSH', K.ready .. queue, id)
    elseif found == 'waits' then
      revoke(id)
      revoked = revoked + 1
    end
  end
  return looked, revoked
end

local function purge_set()
  local ids, revoked = ids_behind(key, last, most), 0
  for _, id in ipairs(ids) do
    local found, parked = look(id)
    if found == 'waits' then
      redis.call('ZREM', key, id)
      if parked then redis.pcall('ZREM', K.parked .. parked, id) end
      revoke(id)
      revoked = revoked + 1
    else
      -- A stale one, too: plain RQ writes the set before the hash.
      last = id
    end
  end
  return #ids, revoked
end

local looked, revoked = (STATUS[place] == 'queued' and purge_list or purge_set)()
return {begun, last, looked, revoked}
