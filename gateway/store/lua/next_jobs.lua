-- with lib_lines
-- Offers a worker the best jobs of its models that it has slots for. An offer that is not claimed in time stands again.
-- KEYS: the lines of each model; of each class models take turns.
-- ARGV: the worker's queue, slots of its batch, free ones, free tokens of its KV cache
-- (-1: any number), slots that can be taken back from background jobs, and from interactive ones of a key that holds
-- more than others, background jobs that come before interactive ones (their share is owed), whether a quarantined job may be
-- offered (1), how long an offer stands in ms, whether it is to be told of the next job (1), or asks again by itself,
-- tokens that an answer is expected to have at most, those of the longest sequence, slots that background jobs hold, and
-- may hold, slots that the interactive jobs of one API key may hold, whose turn it is (models before it) to give
-- recovered, interactive and background jobs, then API key, slots that it holds, ...
-- Returns {how many of the jobs, the last ones, need slots that are taken back, number of the model:line:member ...}.
-- Jobs of one line that are offered together.
local MOST = 1000
local base, worker = KEYS[1], ARGV[1]
local total, free, room = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local background, crowded, owed = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local now, stands = now_ms(), tonumber(ARGV[9])
local background_held, background_most, key_most = tonumber(ARGV[13]), tonumber(ARGV[14]), tonumber(ARGV[15])
local turns = {quarantined = ARGV[16], first = ARGV[16], interactive = ARGV[17], background = ARGV[18]}
local held, most_held = {}, 0
for i = 19, #ARGV, 2 do
  held[ARGV[i]] = tonumber(ARGV[i + 1])
  most_held = math.max(most_held, held[ARGV[i]])
end

-- A job whose offer has ended waits again, if its record says that it waits here.
local function stand_again(offered)
  redis.call('ZREM', base .. ':offered', offered)
  local _, _, _, _, id = read_member(string.match(offered, '^%a+:(.*)$') or '')
  local record = 'hr:{' .. (id or '') .. '}'
  local about = redis.pcall('HMGET', record, 'state', 'model', 'route')
  local waits_for = about[3] and about[3] ~= '' and about[3] or about[2]
  if about[1] == 'queued' and waits_for and base == 'hr:lines:' .. waits_for then
    enter_line(base, place_of(read_place(record), id))
  end
end

-- Members with a score, which ours have not, hide those that stand before them. Returns how many there were.
local function remove_unordered(line)
  return redis.call('ZREMRANGEBYSCORE', line, '-inf', '(0') + redis.call('ZREMRANGEBYSCORE', line, '(0', '+inf')
end

local offers, taken_back = {}, 0

-- Whether somebody who holds so many slots, and wants more, may have them. Who holds none may have as many as it needs.
local function may_hold(have, slots, most)
  return have == 0 or have + slots <= most
end

-- Whether a job of a line may have slots, by what its like already hold.
local function is_within(class, key, slots)
  if class == 'interactive' then
    return may_hold(held[key] or 0, slots, key_most)
  end
  return class ~= 'background' or owed > 0 or may_hold(background_held, slots, background_most)
end

-- The API key that is next, and its first job. A key that holds all the slots that it may is left out: as each of them
-- holds a good part of the batch, there are few.
local function next_of(class, line)
  for _, one in ipairs(redis.call('ZRANGE', line .. ':keys', 0, 7)) do
    local first = first_of(line, one)
    local _, slots = read_member(first or '')
    if not slots or is_within(class, one, slots) then
      return one, first
    end
  end
end

-- Whether the first of a line was offered.
local function offer(at, class, take_back)
  local line = base .. ':' .. class
  local key, member
  if is_fair(class) then
    key, member = next_of(class, line)
    if key and not member then  -- not to be, but it would stand in the way of all
      if remove_unordered(line) == 0 then
        redis.call('ZREM', line .. ':keys', key)
      end
      return 'again'
    end
  else
    member = redis.call('ZRANGE', line, 0, 0)[1]
  end
  if not member then
    return nil
  end
  local of, slots, prompt, most = read_member(member)
  if not of then
    redis.call('ZREM', line, member)
    return 'again'
  end
  most = math.min(most, prompt + slots * tonumber(ARGV[11]), slots * tonumber(ARGV[12]))
  slots = math.min(slots, total)
  if room >= 0 and most > room and (#offers > 0 or free < total) then
    return nil
  end
  if take_back then
    if slots <= free + background then
      background = background - math.max(0, slots - free)
    elseif slots <= crowded and (held[of] or 0) + slots < most_held then
      crowded = crowded - slots
    else
      return nil
    end
    free = math.max(0, free - slots)
    taken_back = taken_back + 1
  elseif slots <= free then
    free = free - slots
  else
    return nil
  end
  room = room >= 0 and math.max(0, room - most) or room
  if class == 'background' then
    background_held = background_held + slots
  else
    held[of] = (held[of] or 0) + slots
  end
  redis.call('ZREM', line, member)
  redis.call('ZADD', base .. ':offered', now + stands, class .. ':' .. member)
  offers[#offers + 1] = at .. ':' .. class .. ':' .. member
  if key then
    charge(line, key, prompt)
    leave_keys(line, key)
  end
  return 'taken'
end

-- Whether anybody may wait, by the number of the model: the others cost nothing more.
local waits = {}
for at, lines in ipairs(KEYS) do
  waits[at] = redis.call('EXISTS', lines .. ':offered', lines .. ':quarantined', lines .. ':first',
    lines .. ':interactive:keys', lines .. ':background:keys') > 0
end

-- One of each model in turn, until none has any, or `most` were offered.
local function offer_all(class, most, take_back)
  local turn, without = tonumber(turns[class]), 0
  while most > 0 and without < #KEYS do
    local at = turn % #KEYS + 1
    base = KEYS[at]
    local found = waits[at] and offer(at, class, take_back)
    if found ~= 'again' then
      turn = turn + 1
      without = found and 0 or without + 1
      most = most - (found and 1 or 0)
      owed = owed - (found and class == 'background' and 1 or 0)
    end
  end
end

-- How many members a key of the lines of all models has.
local function count_all(name)
  local count = 0
  for at, lines in ipairs(KEYS) do
    count = count + (waits[at] and redis.call('ZCARD', lines .. name) or 0)
  end
  return count
end

local function stand_all_again()
  for at, lines in ipairs(KEYS) do
    base = lines
    local over = waits[at] and redis.call('ZRANGEBYSCORE', base .. ':offered', '-inf', now, 'LIMIT', 0, 100) or {}
    for _, offered in ipairs(over) do
      stand_again(offered)
    end
  end
end

local function offer_everybody()
  stand_all_again()
  if ARGV[8] == '1' then
    offer_all('quarantined', 1, false)
  end
  offer_all('first', MOST, false)
  if count_all(':first') > 0 then
    return  -- the next of them waits for more slots than are free
  end
  offer_all('background', owed, false)
  offer_all('interactive', MOST, false)
  offer_all('interactive', MOST, true)
  if count_all(':interactive:keys') == 0 then
    offer_all('background', MOST, false)
  end
end

-- Of workers with as many free slots, the one that has asked longest ago is told first.
local function open_or_close()
  local opening = free + ((background > 0 or crowded > 0) and 0.5 or 0)
  opening = opening > 0 and opening + 0.4 * (1 - now / 1e13) or 0
  for _, lines in ipairs(KEYS) do
    if opening > 0 and ARGV[10] == '1' then
      redis.call('ZADD', lines .. ':openings', opening, worker)
      redis.call('PEXPIRE', lines .. ':openings', LONGEST_OFFER)  -- those that live ask more often
    else
      redis.call('ZREM', lines .. ':openings', worker)
    end
  end
end

on_all_lines(KEYS, offer_everybody)
on_all_lines(KEYS, open_or_close)
return {taken_back, unpack(offers)}
