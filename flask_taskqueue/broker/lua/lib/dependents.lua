-- Jobs that wait for one that ended. Needs clock, queueing.

-- RQ's Job.dependencies_are_met for one dependent of a job that just ended.
local function is_met(dependent, parent, parent_status, allow_failure)
  if parent_status == 'canceled' or parent_status == 'stopped' then return false end
  if parent_status == 'failed' and not allow_failure then return false end
  local others = redis.pcall('SMEMBERS',
    K.dependencies_prefix .. dependent .. K.dependencies_suffix)
  if others.err then return false end
  for _, other in ipairs(others) do
    if other ~= parent then
      local status = redis.pcall('HGET', K.job .. other, 'status')
      if type(status) == 'string' and status ~= 'finished' and not (status == 'failed' and allow_failure) then
        return false
      end
    end
  end
  return true
end

-- Look at about 100 dependents from a SSCAN cursor on; returns the next cursor.
local function release_dependents(id, status, cursor)
  local key = K.job .. id .. K.dependents_suffix
  local page = redis.pcall('SSCAN', key, cursor, 'COUNT', '100')
  if page.err then return '0' end
  for _, dependent in ipairs(page[2]) do
    local row = redis.pcall('HMGET', K.job .. dependent,
      'status', 'origin', 'allow_dependency_failures', 'enqueue_at_front')
    local queue = row[2]
    if row[1] == 'deferred' and queue and is_met(dependent, id, status, row[3] == '1') then
      redis.call('SREM', key, dependent)
      redis.call('ZREM', K.deferred .. queue, dependent)
      redis.call('HSET', K.job .. dependent, 'status', 'queued', 'enqueued_at', stamp(now))
      push(queue, dependent, row[4] == '1')
    end
  end
  return page[1]
end

-- ttl: of the job, or nil; what is known of its relations goes with it.
local function follow_up(ended, ttl)
  local id, status = ended.id, ended.status
  local cursor = release_dependents(id, status, '0')
  if cursor ~= '0' then redis.call('HSET', K.followups, id, cursor .. ' ' .. status) end
  if ttl then
    redis.call('EXPIRE', K.job .. id .. K.dependents_suffix, ttl)
    redis.call('EXPIRE', K.dependencies_prefix .. id .. K.dependencies_suffix, ttl)
  end
end
