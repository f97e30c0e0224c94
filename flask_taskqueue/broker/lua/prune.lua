#!lua flags=allow-oom
-- include: clock args
-- Take out of sets what has expired: finished, failed and revoked jobs, workers
-- without a record, parked jobs that no longer are, jobs that are gone out of RQ's
-- groups. Look for plain rq workers beside ours on the way.
--
-- KEYS  none (they follow from the sets of queues and workers)
-- ARGV  most members to take out of a set
-- returns  {number of members taken out, or -1 where somebody pruned within a minute,
--          {queue, key of a plain rq worker, number of them} for each queue that has
--          such ones beside ours}

local most = arg()
if not redis.call('SET', K.pruned, '1', 'NX', 'EX', 60) then return {-1, {}} end
local out, mixed = 0, {}
for _, key in ipairs(redis.call('SMEMBERS', K.queues)) do
  local queue = string.sub(key, #K.queue + 1)
  for _, prefix in ipairs({K.finished, K.failed, K.canceled}) do
    local gone = redis.pcall('ZRANGE', prefix .. queue, 0, '(' .. seconds(now),
      'BYSCORE', 'LIMIT', 0, most)
    if not gone.err and #gone > 0 then
      out = out + redis.call('ZREM', prefix .. queue, unpack(gone))
      -- There may be more: somebody may go on soon.
      if #gone == tonumber(most) then redis.call('EXPIRE', K.pruned, 1) end
    end
  end
  local plain, ours = {}, 0
  for _, worker in ipairs(redis.call('SMEMBERS', K.workers_of .. queue)) do
    if redis.call('EXISTS', worker) == 0 then
      out = out + redis.call('SREM', K.workers_of .. queue, worker)
    elseif redis.pcall('HGET', worker, 'tq_version') then
      ours = ours + 1
    else
      plain[#plain + 1] = worker
    end
  end
  if ours > 0 and #plain > 0 then mixed[#mixed + 1] = {queue, plain[1], #plain} end
end
for _, task in ipairs(redis.call('SMEMBERS', K.parked_names)) do
  for _, id in ipairs(redis.call('ZRANGE', K.parked .. task, 0, most - 1)) do
    local status = redis.pcall('HGET', K.job .. id, 'status')
    if status ~= 'deferred' then out = out + redis.call('ZREM', K.parked .. task, id) end
  end
  if redis.call('EXISTS', K.parked .. task) == 0 then
    redis.call('SREM', K.parked_names, task)
  end
end
for _, worker in ipairs(redis.call('SMEMBERS', K.workers)) do
  if redis.call('EXISTS', worker) == 0 then out = out + redis.call('SREM', K.workers, worker) end
end
-- Jobs of RQ's groups looked at in one call: 10 ms of the server's time.
local left = 3000

-- By chance, so that nobody keeps how far it came; where fewer are in groups, all.
for _, name in ipairs(redis.pcall('SRANDMEMBER', K.groups, most)) do
  if left <= 0 then break end
  local key = K.group .. name
  local ids = redis.pcall('SRANDMEMBER', key, left)
  for _, id in ipairs(ids) do
    if redis.call('EXISTS', K.job .. id) == 0 then out = out + redis.call('SREM', key, id) end
  end
  left = left - 1 - #ids
  if redis.call('EXISTS', key) == 0 then redis.call('SREM', K.groups, name) end
end
return {out, mixed}
