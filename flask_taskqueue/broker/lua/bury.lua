#!lua flags=allow-oom
-- include: clock args queueing telling leases ending recovering storing
-- End a job whose process was killed for it. A free slot calls its hooks.
--
-- KEYS  none (they follow from the job)
-- ARGV  an end as lib/storing.lua reads it
-- returns  1 stored, 2 this execution had stored it before, 0 refused: it has lost its
--          lease

local ended = read_end()
local code = store_end(ended)
if code == 1 then leave_aftermath(ended.id, ended.queue, ended.execution) end
return code
