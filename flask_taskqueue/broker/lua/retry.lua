#!lua flags=allow-oom
-- include: clock args queueing telling leases ending
-- Store a failed attempt and let the job run again.
--
-- KEYS  none (they follow from the job)
-- ARGV  id, queue, execution, due ('' now, '+SECONDS', epoch), 1 = at the front,
--       queue of the next execution, error ('': no attempt is counted), counted
--       list of hash pairs, counted list of stream pairs (empty: no entry)
-- returns  {code, retries}; 1 stored, 2 this execution had stored it before,
--          3 revoked meanwhile: it ended instead, 0 refused: it has lost its lease,
--          or there is no such job any more

local ERRORS_KEPT = 100

local id, queue, execution = arg(), arg(), arg()
local due, front, target = instant(arg()), arg() == '1', arg()
local failure, fields, entry = arg(), list(), list()
local key = K.job .. id

local row = redis.pcall('HMGET', key, 'tq_execution', 'status', 'tq_retries', 'tq_revoked')
local retries = number(row[3], 0)
if not take_lease(id, queue, execution) then
  if row.err or row[1] ~= execution or row[2] == 'started' then return {0, 0} end
  return {2, retries}
end
drop_execution(id, execution)
-- Somebody deleted it, or put something else there: nothing could run again.
if row.err then end_job(id, queue, 'failed', {}, {}) end
if not row[2] then return {0, 0} end

local errors = {}
if failure ~= '' then
  errors = {'tq_error', failure, 'tq_error_' .. retries, failure}
  redis.call('HDEL', key, 'tq_error_' .. (retries - ERRORS_KEPT))
end

if row[4] then
  extend(errors, {'tq_error', error_text('TaskRevokedError', 'revoked')})
  end_job(id, queue, 'canceled', errors, {})
  return {3, retries}
end

if failure ~= '' then retries = retries + 1 end
redis.call('HDEL', key, 'tq_state', 'tq_info', 'tq_sig_info')
extend(fields, errors)
extend(fields, {
  'tq_retries', retries, 'started_at', '', 'worker_name', '', 'origin', target,
})
if due and due > now then
  extend(fields, {'status', 'scheduled', 'tq_eta', seconds(due)})
  redis.call('HSET', key, unpack(fields))
  schedule(target, id, due)
else
  extend(fields, {'status', 'queued', 'enqueued_at', stamp(now)})
  redis.call('HSET', key, unpack(fields))
  push(target, id, front)
end
tell(id)
if #entry > 0 then
  add_result(id, K.scratch .. 1, unpack(entry))
  redis.call('DEL', K.scratch .. 1)
  redis.call('EXPIRE', K.results .. id, 31536000)
end
return {1, retries}
