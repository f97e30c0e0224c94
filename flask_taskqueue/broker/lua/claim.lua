#!lua flags=allow-oom
-- include: clock args queueing telling leases ending claiming
-- Take the next job of the queues, in their order.
--
-- KEYS  none (they follow from what is read)
-- ARGV  a claim as lib/claiming.lua reads it
-- returns  {job or nil, again, notes}; a job is {id, queue, fields and
--          values}, a note {kind, id, queue, reason}

local job, again, notes = claim(read_claim())
return {job, again, notes}
