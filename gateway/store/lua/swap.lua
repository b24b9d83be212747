-- Puts a value in the place of another, if that is still there. ARGV: the other ('' = none), the value.
-- Returns 1 if it did.
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2])
return 1
