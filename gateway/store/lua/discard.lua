-- with lib_lines
-- Takes back a job that was just created, from the lines KEYS[4] too, unless somebody has begun or ended it meanwhile. Returns 1 if it is gone.
local state, epoch = unpack(redis.call('HMGET', KEYS[1], 'state', 'epoch'))
if state and (state ~= 'queued' or epoch) then
  return 0
end
on_lines(KEYS[4], function() leave(KEYS[4], ARGV[1], read_place(KEYS[1])) end)
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3], KEYS[1] .. ':timeline')
return 1
