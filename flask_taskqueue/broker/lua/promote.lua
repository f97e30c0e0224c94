#!lua flags=allow-oom
-- include: clock args queueing telling leases ending quarantining promoting
-- Move due jobs of queues to their ends, in order of due time. Nothing of a queue
-- that RQ's own scheduler has, or had just now: sweep takes it from there.
--
-- KEYS  none (they follow from the queues)
-- ARGV  most jobs to move of a queue, counted list of queues
-- returns  milliseconds to the next due time, or -1

local most = count()
local next_due = -1
for _, queue in ipairs(list()) do
  local _, due = promote(queue, most)
  if due >= 0 and (next_due < 0 or due < next_due) then next_due = due end
end
return next_due
