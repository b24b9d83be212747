-- with lib_lines
-- The position of a waiting job in its line, from 1, as it is served; 0 if it does not wait.
-- KEYS[4]: the lines of the model that it waits for. ARGV: job id.
if redis.call('HGET', KEYS[1], 'state') ~= 'queued' then
  return 0
end
local class, member, since = place_of(read_place(KEYS[1]), ARGV[1])

local function position()
  local is_offered = redis.call('ZSCORE', KEYS[4] .. ':offered', class .. ':' .. member)
  return is_offered and 1 or ahead(KEYS[4], class, member, since) + 1
end

return on_lines(KEYS[4], position)
