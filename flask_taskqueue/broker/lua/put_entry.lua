#!lua
-- include: clock args queueing entries
-- Write an entry's definition, and its next time where it needs one.
--
-- KEYS  none (they follow from the entry)
-- ARGV  app, id, fingerprint of the definition the caller read ('' there must be none,
--       '*' any), time it first fires if it is new, or its rhythm is ('' never: it is
--       over), time it was last due as the caller read it ('' never), 1 = enabled, id
--       of an entry of plain rq-scheduler that it replaces ('' none), that one's due
--       time as the caller read it ('' any), counted list of pairs of the definition,
--       then the job rq-scheduler shows for it, as lib/queueing.lua reads it
-- returns  1 created, 2 changed, or it has a next time again after it was cancelled or
--          enabled, 3 it is the same, 0 refused: it is not as the caller read it, it
--          fired since, or what it replaces is gone or has fired since, -1 a key holds
--          something else, such as an entry of another name
--
-- An entry of the same rhythm keeps its next time, a paused one stays paused, a one-off
-- that is over stays over. The same definition in other bytes, or with another
-- signature, is written, too.

local CREATED, CHANGED, SAME, STALE, NOT_A_JOB = 1, 2, 3, 0, -1

local app, id, known, first, last_due = arg(), arg(), arg(), arg(), arg()
local enabled, replaces, replaced_due = arg() == '1', arg(), arg()
local pairs_given, shown = list(), read_job()
local names, definition = {}, {}
for i = 1, #pairs_given, 2 do
  names[#names + 1] = pairs_given[i]
  definition[pairs_given[i]] = pairs_given[i + 1]
end
if first ~= '' then first = seconds(tonumber(first)) end

local key = K.entry .. id
local row = redis.pcall('HMGET', key, 'fingerprint', 'rhythm', 'last_due', 'paused',
  'ended', 'sig', 'name', 'app', 'made')
local mirror = has_mirror(id)
if row.err or mirror == nil then return NOT_A_JOB end
if row[7] and row[7] ~= definition.name or row[8] and row[8] ~= app then
  return NOT_A_JOB
end
local same = row[1] == definition.fingerprint
-- This very call may have been made before, and its reply been lost.
local repeated = same and (known ~= '' or row[9] == definition.made)
if known ~= '*' and (row[1] or '') ~= known and not repeated then return STALE end
if not is_same(row[3] or '', last_due) then return STALE end
local score, indexed = times(app, id)
local listed = redis.call('SISMEMBER', K.entries .. app, id) == 1
if replaces ~= '' then
  local kind = redis.call('TYPE', K.job .. replaces).ok
  if kind ~= 'hash' and kind ~= 'none' then return NOT_A_JOB end
  local at = redis.call('ZSCORE', K.scheduler_set, replaces)
  local fired = at and replaced_due ~= '' and not is_same(at, replaced_due)
  -- Gone and the same: this call was made before, and its reply was lost.
  if fired or not at and not same or has_mirror(replaces) then return STALE end
end
local same_rhythm = row[2] == definition.rhythm
local over = row[5] and same_rhythm

-- Whether each byte of it stands there, and no signature beside it.
local function is_written()
  if row[6] and not definition.sig then return false end
  for i, stored in ipairs(redis.call('HMGET', key, unpack(names))) do
    if stored ~= definition[names[i]] then return false end
  end
  return true
end

local function write()
  -- Fields the definition has no longer, such as its signature, must not stay.
  redis.call('HDEL', key, 'sig')
  redis.call('HSET', key, unpack(pairs_given))
  if not same_rhythm then redis.call('HDEL', key, 'ended') end
  keep(app, id)
end

local function show()
  local created = redis.call('HGET', K.job .. id, 'created_at') or stamp(now)
  redis.call('DEL', K.job .. id)
  redis.call('HSET', K.job .. id, unpack(extend(shown.fields, {
    'created_at', created, 'origin', shown.queue, 'status', 'scheduled',
    'tq_entry', definition.name or id})))
end

-- returns 1 where its next time is another one now
local function place_in_time()
  if not enabled or row[4] or over then
    if score or indexed then set_due(app, id, '') end
    return score and 1 or 0
  end
  if score and same_rhythm then
    -- It keeps its time; the index may have lost it.
    if indexed ~= score then redis.call('ZADD', K.due .. app, score, id) end
    return 0
  end
  set_due(app, id, first)
  redis.call('HDEL', key, 'cancelled')
  if first == '' then
    over = true
    return score and 1 or 0
  end
  -- A plain rqscheduler must not come upon it, also before the first beat starts.
  hold_pass(false)
  return 1
end

if replaces ~= '' then
  redis.call('ZREM', K.scheduler_set, replaces)
  -- Only a hash that never fired is deleted: after that it is a job that waits, runs or
  -- has ended. rq-scheduler 0.13 leaves it in RQ's first status, 'created'.
  local status = redis.call('HGET', K.job .. replaces, 'status')
  if not status or status == 'scheduled' or status == 'created' then
    redis.call('DEL', K.job .. replaces)
  end
end
if not listed or not is_written() then write() end
if not same or not mirror then show() end
local moved = place_in_time()
if over then end_entry(app, id) end
if same and moved == 0 then return SAME end
tell_entries(app)
return row[1] and CHANGED or CREATED
