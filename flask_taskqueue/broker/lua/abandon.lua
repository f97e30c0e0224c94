#!lua flags=allow-oom
-- include: clock args queueing telling leases ending recovering
-- Take back everything a dead child held: what ran is charged a recovery, what
-- it had claimed and not started is given back without one.
--
-- KEYS  none (they follow from the leases)
-- ARGV  beginning of the child's execution ids, execution that ran or '', how the
--       child died, counted list of queues
-- returns  list of {id, queue, what}; what: requeued, failed, revoked, gone, given

local prefix, ran, reason, queues = arg(), arg(), arg(), list()
local out = {}
for _, queue in ipairs(queues) do
  local held = {}
  for _, member in ipairs(redis.call('ZRANGE', K.wip .. queue, 0, -1)) do
    local id, execution = split(member)
    if id and string.sub(execution, 1, #prefix) == prefix then
      local number = tonumber(string.sub(execution, #prefix + 1)) or 0
      held[#held + 1] = {id, execution, number}
    end
  end
  -- From the last to the first: each goes to the front of its queue.
  table.sort(held, function(a, b) return a[3] > b[3] end)
  for _, each in ipairs(held) do
    local id, execution = each[1], each[2]
    if take_lease(id, queue, execution) then
      local what
      if execution == ran then
        what = recover_job(id, queue, execution, reason, true)
      else
        what = give_back(id, queue, execution, false)
      end
      out[#out + 1] = {id, queue, what}
    end
  end
end
return out
