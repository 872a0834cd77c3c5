-- States: compare-and-set on their tokens, under the applied offset of the log.

local MOST_ARGUMENTS = 6000 -- Lua's unpack fails a little above 7,000

local function in_chunks(command, key, values, first, last)
  for from = first, last, MOST_ARGUMENTS do
    redis.call(command, key, unpack(values, from, math.min(from + MOST_ARGUMENTS - 1, last)))
  end
end

-- save (also a heartbeat: no changes; and fire: no offsets, and the clock that it was decided by). All of it or nothing.
-- KEYS: shard, due, then the states of the n changes, then (tombstone, runs) of each erased shopper.
-- ARGV: 1 stage, 2 epoch, 3 log (topic id:partition), 4 from ('' for fire), 5 to, 6 clock, 7 state TTL, 8 tombstone TTL,
--   9 outcomes kept, 10 n changes, 11 n due, 12 n not due, 13 n fired, 14 n erased, 15 whether this writer knows the shard as
--   written ('1'); then n (token, new value), (due, user), user, (user, run id, as-of, blob), (user, erased at), and, only where
--   there are any, how many of the records came after their time.
-- Returns status, next offset, clock (-1: never written), conflated, then the positions of the changes in conflict.
local FIXED = 15
local function save(keys, argv)
  local k, due = shard_of(keys), keys[11]
  local stage, epoch, log = argv[1], argv[2], argv[3]
  local ttl, tombstone_ttl = argv[7], argv[8]
  for position = 7, 9 do
    if natural(argv[position], 'TTL or outcomes kept') < 1 then
      fail('a TTL or the outcomes kept is 0')
    end
  end
  local kept, n = argv[9], natural(argv[10], 'changes')
  local n_due, n_undue = natural(argv[11], 'due'), natural(argv[12], 'not due')
  local n_fired, n_erased = natural(argv[13], 'fired'), natural(argv[14], 'erased')
  local due_at = FIXED + 2 * n + 1
  local undue_at = due_at + 2 * n_due
  local fired_at = undue_at + n_undue
  local erased_at = fired_at + 4 * n_fired
  local past = erased_at + 2 * n_erased
  local clamped = natural(argv[past] or '0', 'clamped')
  if (#argv ~= past - 1 and #argv ~= past) or #keys ~= 11 + n + 2 * n_erased then
    fail('save: keys and arguments do not match their counts')
  end

  local fenced, held = fence(k, stage, epoch)
  if fenced then
    return { 'fenced', fenced }
  end
  local offset, clock = -1, -1
  local from, to, new_clock
  if argv[4] == '' then -- fire: decided by a clock that was read before; a store that went back since then knows less
    if natural(redis.call('HGET', k.meta, 'clock:' .. word(log, 'log')) or '0', 'stored clock') < natural(argv[6], 'clock') then
      return { 'behind', -1, -1, 0 }
    end
  else
    from, to, new_clock = natural(argv[4], 'from'), natural(argv[5], 'to'), natural(argv[6], 'clock')
    if from > to then
      fail('save: from offset ' .. argv[4] .. ' is above to offset ' .. argv[5])
    end
    local applied = redis.call('HMGET', k.meta, 'offset:' .. word(log, 'log'), 'clock:' .. log)
    if applied[1] then
      offset, clock = natural(applied[1], 'stored offset'), natural(applied[2], 'stored clock')
      if offset ~= from then
        return { offset < from and 'behind' or 'ahead', offset, clock, 0 }
      end
    elseif argv[15] == '1' or held ~= epoch then
      return { 'lost', -1, -1, 0 } -- this writer has saved here, or at least begun here, and it is gone
    end
  end

  local conflicts, repeated = { 'conflict', offset, clock, 0 }, false
  for i = 1, n do
    local stored, expected = redis.call('GETRANGE', keys[11 + i], 0, 7), argv[FIXED + 2 * i - 1]
    local value = argv[FIXED + 2 * i]
    if #value < 8 or (#expected ~= 0 and #expected ~= 8) then
      fail('save: a token is not 8 bytes')
    end
    if stored ~= expected then
      repeated = repeated or stored == string.sub(value, 1, 8)
      conflicts[#conflicts + 1] = i - 1
    end
  end
  if repeated then -- only this very call can have written that token, and it writes all or nothing
    return { 'saved', offset, clock, 0 }
  end
  if #conflicts > 4 then
    return conflicts
  end
  redis.call('ZCARD', due)
  for i = due_at, undue_at - 1, 2 do
    natural(argv[i], 'due')
  end
  if n_fired + n_erased > 0 then
    check_queue(k)
  end
  for i = fired_at, erased_at - 1, 4 do
    word(argv[i + 1], 'run id')
    natural(argv[i + 2], 'as-of')
  end
  for i = 1, n_erased do
    natural(argv[erased_at + 2 * i - 1], 'erased at')
    natural(redis.call('GET', keys[11 + n + 2 * i - 1]) or '0', 'stored tombstone')
    redis.call('STRLEN', keys[11 + n + 2 * i])
  end

  for i = 1, n do
    redis.call('SET', keys[11 + i], argv[FIXED + 2 * i], 'PX', ttl)
  end
  in_chunks('ZADD', due, argv, due_at, undue_at - 1)
  in_chunks('ZREM', due, argv, undue_at, fired_at - 1)
  local conflated = 0
  for i = fired_at, erased_at - 1, 4 do
    conflated = conflated + offer(k, kept, argv[i], argv[i + 1], argv[i + 2], argv[i + 3])
  end
  for i = 1, n_erased do
    local user, erased = argv[erased_at + 2 * i - 2], argv[erased_at + 2 * i - 1]
    local tombstone = keys[11 + n + 2 * i - 1]
    if tonumber(redis.call('GET', tombstone) or '0') > tonumber(erased) then
      erased = redis.call('GET', tombstone)
    end
    redis.call('SET', tombstone, erased, 'PX', tombstone_ttl)
    redis.call('DEL', keys[11 + n + 2 * i])
    refuse_up_to(k, kept, user, tonumber(erased))
  end
  if from then
    if clock > new_clock then
      new_clock = clock
    else
      redis.call('HSET', k.meta, 'clock:' .. log, argv[6])
    end
    redis.call('HSET', k.meta, 'offset:' .. log, argv[5])
    if clamped > 0 then
      redis.call('HINCRBY', k.meta, 'clamped:' .. log, argv[past])
    end
  end
  if held ~= epoch then
    redis.call('HSET', k.meta, 'epoch:' .. stage, epoch)
  end
  return { 'saved', to or -1, new_clock or -1, conflated }
end

redis.register_function('aigq_v1_save', save)
