-- Tell whoever watches a job that it changed.

-- What it changed to they read. A user of the server that may not publish must not
-- abort a script half-way: watchers look again by themselves, only later.
local function tell(id)
  redis.pcall('PUBLISH', K.changes .. id, '')
end
