-- running -> queued, by the holder of the claim or by the keeper that found it dead.
-- ARGV: claim id that must still hold, and why: 'crashed' (its engine or worker died of itself), 'crashed_alone' (so did
-- one that had nothing else to do), 'lost' (its worker died, or its engine was killed), 'given_back' (a drain, a stall,
-- Redis), 'preempted' (others needed its slots). Returns 1 if it was released. It is then before all others that wait,
-- but for one that was preempted, which waits where it did.
-- A crash is counted while the job may be its cause: it was one of the first two, or the job died alone in its
-- first 8 tokens; and a loss before it had begun, since preparing it may have killed the worker. Losses count the
-- claims in a row that have not come to 64 new tokens, which clear its name.
local state, claim, seq, claim_seq, tokens, crashes, losses, progress = unpack(redis.call('HMGET', KEYS[1], 'state', 'claim',
  'seq', 'claim_seq', 'claim_tokens', 'crashes', 'losses', 'progress_at'))
if state ~= 'running' or claim ~= ARGV[1] then
  return 0
end
local events = (tonumber(seq) or 0) - (tonumber(claim_seq) or 0)
tokens = tonumber(tokens) or events  -- older workers count events
crashes, losses = tonumber(crashes) or 0, tonumber(losses) or 0
if tokens >= 64 and ARGV[2] ~= 'crashed_alone' then
  crashes, losses = 0, 0
end
local blamed = ARGV[2] == 'crashed' and (crashes < 2 or tokens <= 8) or ARGV[2] == 'lost' and events == 0
  or ARGV[2] == 'crashed_alone'
local now = now_ms()
counting(note, now, 'interrupted', {cause = ARGV[2], tokens = whole(redis.call('HGET', KEYS[1], 'claim_ids')),
  silent_s = math.max(0, now - (tonumber(progress) or now)) / 1000})
redis.call('HSET', KEYS[1], 'state', 'queued', 'owner', '', 'claim', '', 'queued_at', now, 'cause', ARGV[2],
  'crashes', crashes + (blamed and 1 or 0), 'losses', losses + (ARGV[2] == 'preempted' and 0 or 1))
if ARGV[2] == 'preempted' then
  redis.call('HINCRBY', KEYS[1], 'preemptions', 1)
  redis.call('HDEL', KEYS[1], 'recovered')
  counting(count, 1, 'preemptions', redis.call('HGET', KEYS[1], 'model') or '')
else
  redis.call('HSET', KEYS[1], 'recovered', '1')
end
return 1
