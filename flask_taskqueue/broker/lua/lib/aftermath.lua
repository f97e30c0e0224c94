-- Killed jobs whose hooks a slot is to call. Needs clock, args, leases, ending.

-- Seconds nobody else gets a killed job's hooks; the slot itself stops before that.
local AFTERMATH_LEASE = 180

-- Slots that begin with a killed job's hooks before it is given up: they may be what
-- kills processes.
local AFTERMATH_TRIES = 3

-- A note for the slot that is to call a killed job's hooks, one about a job that is
-- given up, or nil: they were called, or it is gone, or it was started again since.
local function aftermath_of(queue)
  local set = K.aftermath_of .. queue
  local member = redis.call('ZRANGE', set, '-inf', seconds(now), 'BYSCORE', 'LIMIT', 0, 1)[1]
  if not member then return nil end
  local id, execution = split(member)
  local row = redis.pcall('HMGET', K.job .. id, 'tq_execution', 'tq_aftermath')
  local tries = number(row[2], 0) + 1
  if row[1] == execution and tries <= AFTERMATH_TRIES then
    redis.call('HSET', K.job .. id, 'tq_aftermath', tries)
    redis.call('ZADD', set, seconds(now + AFTERMATH_LEASE), member)
    return {'aftermath', id, queue, execution}
  end
  redis.call('ZREM', set, member)
  if row[1] ~= execution then return nil end
  return {'given up', id, queue,
    'on its hooks: they were begun ' .. AFTERMATH_TRIES .. ' times and did not end'}
end

-- Whether the call's slot is to call a killed job's hooks, and not to take a job: such
-- one could be charged with them. One that runs jobs asks again when they have ended.
local function has_aftermath(call, notes)
  if call.ahead then
    for _, queue in ipairs(call.queues) do
      local due = redis.call('ZCOUNT', K.aftermath_of .. queue, '-inf', seconds(now))
      if due > 0 then return true end
    end
    return false
  end
  for _, queue in ipairs(call.queues) do
    local note = aftermath_of(queue)
    if note then notes[#notes + 1] = note end
    if note and note[1] == 'aftermath' then return true end
    if redis.call('EXISTS', K.aftermath_of .. queue) == 0 then
      redis.call('SREM', K.aftermath, queue)
    end
  end
  return false
end
