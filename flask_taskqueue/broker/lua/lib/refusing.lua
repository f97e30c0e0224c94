-- Jobs that are not ordinary: whether one may run, and what it takes. Needs clock, args,
-- queueing, telling, leases, ending, quarantining.

local STATUSES = {
  created = true, queued = true, finished = true, failed = true, started = true,
  deferred = true, scheduled = true, stopped = true, canceled = true,
}

-- returns the fields of a job by name
local function by_name(stored)
  local row = {}
  for i = 1, #stored, 2 do row[stored[i]] = stored[i + 1] end
  return row
end

local function had_ended(row)
  return row.tq_ended or row.ended_at and row.ended_at ~= ''
end

-- Why an id from a queue is not run: a note for the worker's log, false where
-- the entry is only stale, nil where it may run.
local function refusal(id, queue, row)
  local status, execution = row.status, row.tq_execution
  -- What rq-scheduler shows for an entry of beat is no job.
  if row.tq_entry then return false end
  if not status then
    if next(row) == nil then return false end
    return quarantine(id, queue, 'the job has no status')
  end
  if not STATUSES[status] then
    return quarantine(id, queue, 'the job has an unknown status')
  end
  if is_odd(id) then
    return quarantine(id, queue, 'the id is too long, or not in printable characters')
  end
  if status ~= 'queued' then return false end
  if execution and redis.call('ZSCORE', K.wip .. queue, id .. ':' .. execution) then
    return false
  end
  -- Of a job that had ended and was requeued the mark is an old one.
  if row.tq_revoked and not had_ended(row) then
    end_revoked(id, queue, 'revoked')
    return {'revoked', id, queue, ''}
  end
  local expires = row.tq_expires and tonumber(row.tq_expires)
  if expires and expires <= now then
    end_revoked(id, queue, 'expired')
    return {'expired', id, queue, ''}
  end
end

-- What a worker may lose is not to take others with it; and what plain rq promises
-- around its jobs takes time after their end.
local function runs_alone(row)
  return row.tq_recoveries and row.tq_recoveries ~= '0' or row.tq_on_lost == 'fail'
    or not row.tq_task
end

-- returns the fields of a job by name, and what the caller is to know of it as
-- refusal() says it
local function look(id, queue, stored)
  if stored.err then
    return nil, quarantine(id, queue, 'the job is not stored as a hash')
  end
  local row = by_name(stored)
  return row, refusal(id, queue, row)
end

-- It had ended and somebody requeued it: a new life with full counts.
local function renew_life(id)
  local key = K.job .. id
  redis.call('HDEL', key, 'tq_ended', 'tq_retries', 'tq_recoveries', 'tq_recovered_at',
    'tq_error', 'tq_state', 'tq_info', 'tq_sig_info', 'tq_revoked', 'tq_children',
    'tq_ignored')
  redis.call('HSET', key, 'ended_at', '')
  redis.call('PERSIST', key)
end

-- What comes before its beginning.
-- returns whether the worker is to get more than what was read before
local function make_ready(id, queue, row)
  if had_ended(row) then
    renew_life(id)
  elseif row.ttl then
    redis.call('PERSIST', K.job .. id)
  end
  if row.origin ~= queue then redis.call('HSET', K.job .. id, 'origin', queue) end
  -- RQ's functions see the times of the start, too.
  return had_ended(row) or not row.tq_task
end
