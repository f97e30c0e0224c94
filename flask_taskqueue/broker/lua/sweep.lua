#!lua flags=allow-oom
-- include: clock args queueing telling leases ending dependents recovering quarantining promoting
-- Look after all queues: expired leases, due jobs, ids left by dead waiters,
-- dependents left over. Every worker calls it every 2 s. RQ's own scheduler is kept
-- out of the caller's queues only: others may be nobody's but RQ's.
--
-- KEYS  none (they follow from the set of queues)
-- ARGV  longest gap between sweeps in seconds, lease in seconds, most jobs to move
--       of a queue, counted list of queues the caller saw without leases less than
--       that gap ago, counted list of the caller's queues
-- returns  {recovered, milliseconds to the end of the next lease or -1, milliseconds
--          to the next due time or -1, queues with ids left by a waiter, names of
--          parked tasks, paused queues, 1 = all are suspended, {queue, scheduler}
--          for each where RQ's scheduler is being kept out, queues with killed jobs
--          whose hooks somebody may call now}; recovered: list of {id, queue, what} as
--          lib/ending.lua says

local MOST_RECOVERED = 500

local gap, lease, most = count(), count(), count()
local queues, empty = {}, {}
for _, queue in ipairs(list()) do empty[queue] = true end
for _, key in ipairs(redis.call('SMEMBERS', K.queues)) do
  if string.sub(key, 1, #K.queue) == K.queue then
    queues[#queues + 1] = string.sub(key, #K.queue + 1)
  end
end

-- Nobody swept for a while: Redis was away, or the clock was set. The leases ran
-- out because of that, not because their workers are gone.
local swept = tonumber(redis.call('GET', K.swept) or '')
local late = not swept or now - swept > gap or now < swept
redis.call('SET', K.swept, seconds(now))

local function is_ours(member)
  local id, execution = split(member)
  if not id then return nil end
  local held = redis.pcall('HGET', K.job .. id, 'tq_execution')
  if type(held) == 'table' or held == execution or not held and
    redis.call('EXISTS', K.job .. id) == 0 then return id, execution end
end

local function recover(queue, out)
  local set = K.wip .. queue
  -- What is there now may be younger than a lease: then there is nothing to extend but
  -- what a clock that was set made look older.
  local reach = late and not empty[queue] and lease or 0
  local expired = redis.pcall('ZRANGE', set, '-inf', seconds(now + 86400 + reach),
    'BYSCORE', 'LIMIT', 0, late and 10000 or MOST_RECOVERED)
  for _, member in ipairs(expired) do
    local id, execution = is_ours(member)
    if id and late then
      redis.call('ZADD', set, seconds(now + 86400 + lease), member)
    elseif id and take_lease(id, queue, execution) then
      out[#out + 1] = {id, queue, recover_job(id, queue, execution, 'its worker is gone')}
    end
  end
end

-- Milliseconds until a lease ends unless it is renewed; -1 where there is none.
local function next_lapse(queue)
  local head = redis.pcall('ZRANGE', K.wip .. queue, seconds(now + 86400), '+inf',
    'BYSCORE', 'LIMIT', 0, 1, 'WITHSCORES')
  return head[2] and math.ceil((tonumber(head[2]) - 86400 - now) * 1000) or -1
end

local function earlier(a, b)
  return (a < 0 or b >= 0 and b < a) and b or a
end

local kept_out = {}
for _, queue in ipairs(list()) do
  local scheduler = claim_lock(queue)
  if scheduler then kept_out[#kept_out + 1] = {queue, scheduler} end
end

local recovered, ready = {}, {}
local lapse, next_due = -1, -1
for _, queue in ipairs(queues) do
  local found = redis.call('EXISTS', K.wip .. queue, K.scheduled .. queue, K.ready .. queue)
  if found > 0 then
    recover(queue, recovered)
    lapse = earlier(lapse, next_lapse(queue))
    local _, due = promote(queue, most)
    next_due = earlier(next_due, due)
    if redis.call('EXISTS', K.ready .. queue) == 1 then ready[#ready + 1] = queue end
  end
end

if redis.call('EXISTS', K.followups) == 1 then
  local left = redis.call('HGETALL', K.followups)
  for i = 1, math.min(#left, 20), 2 do
    local cursor, status = string.match(left[i + 1], '^(%d+) (%a+)$')
    cursor = cursor and release_dependents(left[i], status, cursor) or '0'
    if cursor == '0' then
      redis.call('HDEL', K.followups, left[i])
    else
      redis.call('HSET', K.followups, left[i], cursor .. ' ' .. status)
    end
  end
end

local aftermath = {}
for _, queue in ipairs(redis.call('SMEMBERS', K.aftermath)) do
  local set = K.aftermath_of .. queue
  if redis.call('EXISTS', set) == 0 then
    redis.call('SREM', K.aftermath, queue)
  elseif redis.call('ZCOUNT', set, '-inf', seconds(now)) > 0 then
    aftermath[#aftermath + 1] = queue
  end
end

return {
  recovered, lapse, next_due, ready, redis.call('SMEMBERS', K.parked_names),
  redis.call('SMEMBERS', K.paused), redis.call('EXISTS', K.suspended), kept_out,
  aftermath,
}
