#!lua flags=allow-oom
-- include: clock args queueing telling leases ending recovering
-- Give jobs back to the front of their queues, in order, without a charge.
--
-- KEYS  none (they follow from the executions)
-- ARGV  1 = they were started, counted list of executions (queue, id, execution
--       in turn)
-- returns  a code for each: 1 given back, 2 it ended instead (started, and
--          on_worker_lost is "fail", or revoked) or its hash is gone, 0 refused: it
--          has lost its lease

local started = arg() == '1'
local held = list()
local codes = {}
-- From the last to the first: each goes to the front of its queue.
for i = #held - 2, 1, -3 do
  local queue, id, execution = held[i], held[i + 1], held[i + 2]
  local code = 0
  if take_lease(id, queue, execution) then
    code = give_back(id, queue, execution, started) == 'given' and 1 or 2
  end
  codes[(i + 2) / 3] = code
end
return codes
