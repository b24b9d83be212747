-- The lines of one model: who waits for it, and who is next. Put before the scripts that use them.
-- All their keys begin with one name, `base`:
--   base:first        jobs that have lost their worker, the oldest first
--   base:quarantined     those that may kill engines; they are taken only when asked for
--   base:interactive  jobs somebody waits for, by API key and age (all scores are 0)
--   base:background   the others, likewise
--   base:{class}:keys    API keys that wait in such a line, by the tokens they were served, over their weight
--   base:{class}:served  the same of keys that do not wait; '' is the one that has left last
--   base:offered      jobs that a worker was offered, until when it may claim them (ms)
--   base:openings     workers that would take a job now, by their free slots, and a part of one for those that have
--                     asked longer ago
-- A member names a job: `key|created at, 13 digits|slots|prompt tokens over weight|most tokens|job id`.

-- Counters of keys that do not wait are dropped above so many, the smallest first.
local MAX_SERVED = 1000
-- Tokens that a key is ahead of those it is level with, when it begins to wait.
local AHEAD = 0.5
-- How long counters of keys are kept in ms after the last of a line has changed.
local SERVED_TTL = 3600000
-- An offer that would stand for longer in ms was made before Redis' clock was put back.
local LONGEST_OFFER = 60000
-- The largest number in a member, which Lua still counts exactly.
local MAX_NUMBER = 2^53
-- All keys behind `base` are sorted sets.
local LINE_KEYS = {':first', ':quarantined', ':interactive', ':interactive:keys', ':interactive:served', ':background',
  ':background:keys', ':background:served', ':offered', ':openings', ':promises:interactive', ':promises:background'}

-- Removes `key` if it is of another type than `kind`. Returns whether it was.
local function remove_odd(key, kind)
  local found = redis.call('TYPE', key).ok
  return found ~= kind and redis.call('DEL', key) == 1
end

-- Removes what is of a wrong type from the lines, and from the promises that were made to `asked`. Returns whether there
-- was any.
local function heal(base, asked)
  local healed = false
  for _, name in ipairs(LINE_KEYS) do
    healed = remove_odd(base .. name, 'zset') or healed
  end
  for _, class in ipairs(asked and {'interactive', 'background'} or {}) do
    healed = remove_odd(base .. ':promises:' .. class .. ':' .. asked, 'list') or healed
  end
  return healed
end

-- Does what works on the lines of all these, and on the promises that were made to `asked`. Somebody else may have put
-- anything there: what is of a wrong type is removed, and it is done again. The keeper puts those back who wait.
local function on_all_lines(bases, act, asked)
  local done, result = pcall(act)
  if done then
    return result
  end
  local healed = false
  for _, base in ipairs(bases) do
    healed = heal(base, asked) or healed
  end
  if not healed then
    error(result)
  end
  return act()
end

local function on_lines(base, act, asked)
  return on_all_lines({base}, act, asked)
end

local function read_member(member)
  local key, slots, prompt, most, id = string.match(member, '^([^|]*)|%d+|(%d+)|(%d+)|(%d+)|(.*)$')
  return key, tonumber(slots), tonumber(prompt), tonumber(most), id
end

-- Whether jobs of this line are served key by key.
local function is_fair(class)
  return class == 'interactive' or class == 'background'
end

-- A counter; what is none, or so large that it never changes again, counts as 0.
local function counter_of(value)
  local number = tonumber(value)
  return number and math.abs(number) < MAX_NUMBER and number or 0
end

local function first_of(line, key)
  return redis.call('ZRANGEBYLEX', line, '[' .. key .. '|', '(' .. key .. '}', 'LIMIT', 0, 1)[1]
end

-- A key that begins to wait is lifted to the least of those that wait, and comes before that one: what it did not use
-- is not saved up.
local function join_keys(line, key)
  local keys, served = line .. ':keys', line .. ':served'
  if redis.call('ZSCORE', keys, key) then
    return false
  end
  local least = redis.call('ZRANGE', keys, 0, 0, 'WITHSCORES')[2] or redis.call('ZSCORE', served, '')
  local own = counter_of(redis.call('ZSCORE', served, key))
  redis.call('ZADD', keys, math.max(own, counter_of(least) - AHEAD), key)
  redis.call('ZREM', served, key)
  return true
end

local function leave_keys(line, key)
  local keys, served = line .. ':keys', line .. ':served'
  local own = redis.call('ZSCORE', keys, key)
  if own and not first_of(line, key) then
    own = counter_of(own)
    redis.call('ZREM', keys, key)
    redis.call('ZADD', served, own, key, own, '')
    redis.call('ZREMRANGEBYRANK', served, 0, -MAX_SERVED - 1)
    redis.call('PEXPIRE', served, SERVED_TTL)
  end
end

-- Tokens, over the key's weight, that were served to a key.
local function charge(line, key, tokens)
  local counters = redis.call('ZSCORE', line .. ':keys', key) and ':keys' or ':served'
  redis.call('ZINCRBY', line .. counters, tokens, key)
  if counters == ':served' then
    redis.call('PEXPIRE', line .. counters, SERVED_TTL)
  end
end

-- Returns whether its key had no other job there.
local function enter_line(base, class, member, since)
  local line = base .. ':' .. class
  local ends_at = tonumber(redis.call('ZSCORE', base .. ':offered', class .. ':' .. member))
  if ends_at then
    if ends_at < now_ms() + LONGEST_OFFER then
      return false
    end
    redis.call('ZREM', base .. ':offered', class .. ':' .. member)
  end
  redis.call('ZADD', line, 'NX', is_fair(class) and 0 or since, member)
  return is_fair(class) and join_keys(line, (read_member(member)))
end

-- What was offered stands in the line no more.
local function leave_line(base, class, member)
  local line = base .. ':' .. class
  if redis.call('ZREM', base .. ':offered', class .. ':' .. member) == 1 then
    return
  end
  if redis.call('ZREM', line, member) == 1 and is_fair(class) then
    leave_keys(line, (read_member(member)))
  end
end

-- The line that a waiting job belongs to, as its record says.
local function class_of(background, recovered, crashes)
  if (tonumber(crashes) or 0) >= 2 then
    return 'quarantined'
  end
  return recovered == '1' and 'first' or background == '1' and 'background' or 'interactive'
end

local function count_of(value, default)
  local number = tonumber(value) or default
  return number >= 0 and math.min(number, MAX_NUMBER) or 0
end

local function member_of(id, key, created_at, slots, prompt, most)
  return string.format('%s|%013d|%d|%d|%d|%s', string.gsub(key or '', '|', '_'), count_of(created_at, 0),
    math.max(1, count_of(slots, 1)), count_of(prompt, 0), count_of(most, 0), id)
end

-- A record as a table, from the flat list of its fields and values.
local function fields_of(flat)
  local record = {}
  for i = 1, #flat, 2 do
    record[flat[i]] = flat[i + 1]
  end
  return record
end

-- Those fields of a record that say where it belongs.
local function read_place(key)
  local names = {'state', 'key_id', 'created_at', 'background', 'recovered', 'crashes', 'preemptions', 'slots',
    'prompt_cost', 'most_tokens', 'queued_at'}
  local record = {}
  for i, value in ipairs(redis.call('HMGET', key, unpack(names))) do
    record[names[i]] = value
  end
  return record
end

-- The line where a job that waits belongs, by its record; what stands for it there; since when it waits; and what stood
-- for it before it had begun, when its prompt was still to be charged.
local function place_of(record, id)
  local function member(prompt)
    return member_of(id, record.key_id, record.created_at, record.slots, prompt, record.most_tokens)
  end
  local new, begun = member(record.prompt_cost), record.recovered == '1' or record.preemptions
  return class_of(record.background, record.recovered, record.crashes), begun and member(0) or new,
    tonumber(record.queued_at) or 0, new
end

-- Takes a job, by its record, out of its line.
local function leave(base, id, record)
  local class, member = place_of(record, id)
  leave_line(base, class, member)
end

-- Puts a job that waits, by its record, into its line alone. Returns the line, and whether its key had no other job
-- there.
local function enter(base, id, record)
  local class, member, since, new = place_of(record, id)
  for _, other in ipairs({'first', 'quarantined', 'interactive', 'background'}) do
    if other ~= class then
      leave_line(base, other, member)
    end
    if new ~= member then
      leave_line(base, other, new)
    end
  end
  return class, enter_line(base, class, member, since)
end

-- The queue of a worker that would take a job of this line now, and was not told since it asked; or ''. One that must
-- take back a slot for it is told of the first job of an API key only.
local function opening(base, class, first)
  local queue, free = unpack(redis.call('ZREVRANGE', base .. ':openings', 0, 0, 'WITHSCORES'))
  if not queue or tonumber(free) < 1 and not (class == 'interactive' and first) then
    return ''
  end
  redis.call('ZREM', base .. ':openings', queue)
  return queue
end

-- How many jobs of this line will be served before one that is, or would be, there: key by key, one of each in turn.
local function ahead_in(base, class, member)
  local line, own = base .. ':' .. class, (read_member(member))
  local before = redis.call('ZLEXCOUNT', line, '[' .. own .. '|', '(' .. member)
  local count = before
  for _, key in ipairs(redis.call('ZRANGE', line .. ':keys', 0, MAX_SERVED)) do
    if key ~= own then
      count = count + math.min(before + 1, redis.call('ZLEXCOUNT', line, '[' .. key .. '|', '(' .. key .. '}'))
    end
  end
  return count
end

-- How many jobs wait before one that is, or would be, in this line; and how many of them in the line.
local function ahead(base, class, member, since)
  if not is_fair(class) then
    local count = redis.call('ZCOUNT', base .. ':' .. class, '-inf', '(' .. since)
    return count, count
  end
  local within = ahead_in(base, class, member)
  local before = class == 'background' and redis.call('ZCARD', base .. ':interactive') or 0
  return redis.call('ZCARD', base .. ':first') + before + within, within
end

-- How long in ms who was told to come back may be late, and how early; the longest time that anybody is told.
local LATE, EARLY, LONGEST = 5000, 1000, 60000

-- Whether a job is taken at a position of its line: 0, or in how many ms there will be room for it; then also for how
-- many others room is kept. Who is refused gets a time of its own, at the model's pace, and is taken then whoever else
-- has come; others count those who are to come.
-- base:promises:{class}        the times that were given: name of what was asked, when
-- base:promises:{class}:{name} the same of one name, the earliest first
local function has_room(base, class, position, last, pace, name, now)
  if last <= 0 or not is_fair(class) then
    return 0
  end
  local given, own = base .. ':promises:' .. class, base .. ':promises:' .. class .. ':' .. name
  if position <= last and redis.call('EXISTS', given) == 0 then
    return 0
  end
  redis.call('ZREMRANGEBYSCORE', given, '-inf', now - LATE)
  local due = tonumber(redis.call('LINDEX', own, 0))
  while due and due < now - LATE do
    redis.call('LPOP', own)
    due = tonumber(redis.call('LINDEX', own, 0))
  end
  if due and due <= now + EARLY then
    redis.call('LPOP', own)
    redis.call('ZREM', given, name .. ':' .. due)
    return 0
  end
  local gap = pace > 0 and 1000000 / pace or 1000
  local coming = redis.call('ZCOUNT', given, '-inf', now + position * gap)
  if position + coming <= last then
    return 0
  end
  local latest = tonumber(redis.call('ZREVRANGE', given, 0, 0, 'WITHSCORES')[2]) or 0
  due = math.ceil(math.max(latest, now + (position - last) * gap) + gap)
  if due - now > LONGEST then
    return LONGEST, coming
  end
  redis.call('ZADD', given, due, name .. ':' .. due)
  redis.call('RPUSH', own, due)
  redis.call('PEXPIRE', own, LONGEST + LATE)
  redis.call('PEXPIRE', given, LONGEST + LATE)
  return due - now, coming
end
