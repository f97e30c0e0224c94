#!lua
-- include: clock args queueing entries
-- Fire an entry for one due time and set its next: the job, its place and the next time
-- in one step. However many beats ask, and however often, one gets it.
--
-- KEYS  none (they follow from the entry and the job)
-- ARGV  app, id, fingerprint of the definition the caller knows, next time it knows,
--       due time to fire for ('' none: only the next time is set), the time after it
--       ('' never again), 1 = skip it while the last job that it fired, or that was
--       triggered, has not ended, 1 = a job follows as lib/queueing.lua reads it
-- returns  1 fired, 2 only the next time was set: there was nothing to fire, or that
--          due time had been dealt with, 3 skipped, 0 refused: the entry is not as the
--          caller knows it, or paused, -1 a key holds something else, -2 it is not due
--          yet, -3 it was cancelled
--
-- Refused when memory is full, as enqueue is: the due time stays.

local FIRED, MOVED_ON, OVERLAPPED = 1, 2, 3
local REFUSED, NOT_A_JOB, FUTURE, CANCELLED = 0, -1, -2, -3

local app, id, fingerprint, expected = arg(), arg(), arg(), tonumber(arg())
local due, after, skip = tonumber(arg()), arg(), arg() == '1'
local job = arg() == '1' and read_job()
if after ~= '' then after = seconds(tonumber(after)) end

local row = redis.pcall('HMGET', K.entry .. id, 'fingerprint', 'paused', 'ended',
  'last_due', 'last_job', 'count', 'last_fired')
if row.err then return NOT_A_JOB end
if row[1] ~= fingerprint or row[2] then return REFUSED end

local score, indexed = times(app, id)
if not score then
  if drop_lost(app, id, false, row[3]) then return CANCELLED end
  return REFUSED
end
if tonumber(score) ~= expected then
  if indexed ~= score then redis.call('ZADD', K.due .. app, score, id) end
  return REFUSED
end
if math.max(due or expected, expected) > now then return FUTURE end

local function advance()
  set_due(app, id, after)
  if after == '' then end_entry(app, id) end
end

local last_due = tonumber(row[4] or '')
if not due or last_due and due <= last_due or redis.call('EXISTS', K.job .. job.id) == 1 then
  advance()
  return MOVED_ON
end

local function is_under_way(job_id)
  local status = job_id and redis.pcall('HGET', K.job .. job_id, 'status')
  return type(status) == 'string' and not ENDED[status]
end

-- The last job may be a triggered one: that of the last firing counts beside it.
if skip and (is_under_way(row[5]) or is_under_way(row[7])) then
  redis.call('HSET', K.entry .. id, 'last_due', seconds(due))
  add_row(id, due, '-', 'skipped')
  advance()
  return OVERLAPPED
end

if not write_job(job) then return NOT_A_JOB end
redis.call('HSET', K.entry .. id, 'last_due', seconds(due), 'last_fired', job.id)
note_job(id, row[6], job.id)
add_row(id, due, job.id, 'fired')
advance()
return FIRED
