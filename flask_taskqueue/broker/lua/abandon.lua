#!lua flags=allow-oom
-- include: clock args queueing telling leases ending
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
  for _, member in ipairs(redis.call('ZRANGE', K.wip .. queue, 0, -1)) do
    local id, execution = split(member)
    if id and string.sub(execution, 1, #prefix) == prefix
      and take_lease(id, queue, execution) then
      local what
      if execution == ran then
        what = recover_job(id, queue, execution, reason)
      else
        what = give_back(id, queue, execution, false)
      end
      out[#out + 1] = {id, queue, what}
    end
  end
end
return out
