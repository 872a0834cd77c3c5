#!lua name=aigq_v1

-- The server's side of the store: every step that must happen whole or not at all. A new meaning of a function or of a stored
-- value is a new library (aigq_v2, ...), so that two versions of the job can run beside each other.
--
-- A failing call does not undo what it has written. So each function first reads everything it will write (which also checks
-- each key's type) and checks every argument, and only then writes. It touches the keys it is given and no others, and uses
-- commands that Redis 7 and Valkey share. Arguments stay strings: numbers are only compared.
--
-- KEYS begins with the shard's own nine keys, in the order of store/layout.py:SHARD_KEYS.

local MOST_ARGUMENTS = 6000 -- Lua's unpack fails a little above 7,000
local MOST_EXPIRED = 1000 -- leases that one claim gives up

local function fail(what)
  error(redis.error_reply('ERR aigq_v1: ' .. what))
end

local function natural(text, name) -- milliseconds, offsets, counts: exact in a double
  if not text or #text > 15 or not string.find(text, '^%d+$') then
    fail(name .. ' is not a whole number: ' .. tostring(text))
  end
  return tonumber(text)
end

local function word(text, name) -- what a stored header may hold: no spaces
  if not text or #text > 200 or not string.find(text, '^[^%s]+$') then
    fail(name .. ' is empty, too long or holds a space: ' .. tostring(text))
  end
  return text
end

local function shard_of(keys)
  return {
    meta = keys[1], counts = keys[2], outcomes = keys[3], wait = keys[4], parked = keys[5], lease = keys[6],
    wait_requests = keys[7], lease_requests = keys[8], revoked = keys[9],
  }
end

local function check_queue(k) -- an error here, before the first write, if a key holds another type
  redis.call('HLEN', k.counts)
  redis.call('XLEN', k.outcomes)
  redis.call('ZCARD', k.wait)
  redis.call('ZCARD', k.parked)
  redis.call('ZCARD', k.lease)
  redis.call('HLEN', k.wait_requests)
  redis.call('HLEN', k.lease_requests)
end

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Writer epochs: `<start in ms>-<8 hex digits>`. Not compared as strings, because that follows the server's locale.
local function epoch_parts(epoch)
  local start, nonce = string.match(epoch or '', '^(%d+)%-(%x+)$')
  if not start or #start > 15 or #nonce > 12 then
    fail('writer epoch is not START_MS-HEX: ' .. tostring(epoch))
  end
  return tonumber(start), tonumber(nonce, 16)
end

local function newer(one, other)
  local start, nonce = epoch_parts(one)
  local other_start, other_nonce = epoch_parts(other)
  return start > other_start or (start == other_start and nonce > other_nonce)
end

-- The newer epoch that fences this writer, or nil; and the epoch now held.
local function fence(k, stage, epoch)
  epoch_parts(epoch)
  local held = redis.call('HGET', k.meta, 'epoch:' .. word(stage, 'stage'))
  if held and newer(held, epoch) then
    return held, held
  end
  return nil, held
end

-- Requests are kept as `<attempt> <as-of> <run id> <blob>`.
local function parse_request(value)
  local attempt, as_of, run_id, blob_at = string.match(value, '^(%d+) (%d+) (%S+) ()')
  if not attempt then
    fail('a stored request cannot be read')
  end
  return attempt, as_of, run_id, blob_at
end

local function ended(k, kept, outcome, user, run_id)
  redis.call('HINCRBY', k.counts, outcome, 1)
  redis.call('XADD', k.outcomes, 'MAXLEN', '~', kept, '*', 'run', run_id, 'user', user, 'outcome', outcome)
end

local function remove_waiting(k, user)
  redis.call('HDEL', k.wait_requests, user)
  redis.call('ZREM', k.wait, user)
  redis.call('ZREM', k.parked, user)
end

-- Takes the lease away. A newer request that was parked behind it can be claimed from now on.
local function remove_lease(k, user)
  redis.call('HDEL', k.lease_requests, user)
  redis.call('ZREM', k.lease, user)
  local as_of = redis.call('ZSCORE', k.parked, user)
  if as_of then
    redis.call('ZREM', k.parked, user)
    redis.call('ZADD', k.wait, as_of, user)
  end
end

-- Puts a fired request into the shopper's one waiting slot. Returns how many requests were conflated.
local function offer(k, kept, user, run_id, as_of, blob)
  local conflated, leased = 0, redis.call('HGET', k.lease_requests, user)
  if leased and select(3, parse_request(leased)) == run_id then
    return 0
  end
  local waiting = redis.call('HGET', k.wait_requests, user)
  if waiting then
    local _, waiting_as_of, waiting_run = parse_request(waiting)
    if waiting_run == run_id then
      return 0
    end
    conflated = 1
    if tonumber(waiting_as_of) > tonumber(as_of) then
      redis.call('HINCRBY', k.counts, 'fired', 1)
      ended(k, kept, 'conflated', user, run_id)
      return conflated
    end
    ended(k, kept, 'conflated', user, waiting_run)
  end
  redis.call('HINCRBY', k.counts, 'fired', 1)
  redis.call('HSET', k.wait_requests, user, '0 ' .. as_of .. ' ' .. run_id .. ' ' .. blob)
  redis.call('ZADD', leased and k.parked or k.wait, as_of, user)
  return conflated
end

local function refuse_up_to(k, kept, user, erased)
  for _, slot in ipairs({ { k.wait_requests, remove_waiting }, { k.lease_requests, remove_lease } }) do
    local request = redis.call('HGET', slot[1], user)
    if request then
      local _, as_of, run_id = parse_request(request)
      if tonumber(as_of) <= erased then
        slot[2](k, user)
        ended(k, kept, 'refused', user, run_id)
      end
    end
  end
end

local function in_chunks(command, key, values, first, last)
  for from = first, last, MOST_ARGUMENTS do
    redis.call(command, key, unpack(values, from, math.min(from + MOST_ARGUMENTS - 1, last)))
  end
end

-- begin: ARGV stage, epoch. This writer fences every older one of its stage from now on.
local function begin(keys, argv)
  local k, stage, epoch = shard_of(keys), argv[1], argv[2]
  local fenced = fence(k, stage, epoch)
  if fenced then
    return { 'fenced', fenced }
  end
  redis.call('HSET', k.meta, 'epoch:' .. stage, epoch)
  return { 'begun' }
end

-- save (also a heartbeat: no changes; and fire: no offsets). All of it or nothing.
-- KEYS: shard, due, then the states of the n changes, then (tombstone, runs) of each erased shopper.
-- ARGV: 1 stage, 2 epoch, 3 log (topic id:partition; '' for fire), 4 from, 5 to, 6 clock, 7 state TTL, 8 tombstone TTL,
--   9 outcomes kept, 10 n changes, 11 n due, 12 n not due, 13 n fired, 14 n erased, 15 whether this writer knows the shard as
--   written ('1'); then n (token, new value), (due, user), user, (user, run id, as-of, blob), (user, erased at).
-- Returns status, next offset, clock (-1: never written), conflated, then the positions of the changes in conflict.
local FIXED = 15
local function save(keys, argv)
  local k, due = shard_of(keys), keys[10]
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
  if #argv ~= erased_at - 1 + 2 * n_erased or #keys ~= 10 + n + 2 * n_erased then
    fail('save: keys and arguments do not match their counts')
  end

  local fenced, held = fence(k, stage, epoch)
  if fenced then
    return { 'fenced', fenced }
  end
  local offset, clock = -1, -1
  local from, to, new_clock
  if log ~= '' then
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
    local stored, expected = redis.call('GETRANGE', keys[10 + i], 0, 7), argv[FIXED + 2 * i - 1]
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
    natural(redis.call('GET', keys[10 + n + 2 * i - 1]) or '0', 'stored tombstone')
    redis.call('STRLEN', keys[10 + n + 2 * i])
  end

  for i = 1, n do
    redis.call('SET', keys[10 + i], argv[FIXED + 2 * i], 'PX', ttl)
  end
  in_chunks('ZADD', due, argv, due_at, undue_at - 1)
  in_chunks('ZREM', due, argv, undue_at, fired_at - 1)
  local conflated = 0
  for i = fired_at, erased_at - 1, 4 do
    conflated = conflated + offer(k, kept, argv[i], argv[i + 1], argv[i + 2], argv[i + 3])
  end
  for i = 1, n_erased do
    local user, erased = argv[erased_at + 2 * i - 2], argv[erased_at + 2 * i - 1]
    local tombstone = keys[10 + n + 2 * i - 1]
    if tonumber(redis.call('GET', tombstone) or '0') > tonumber(erased) then
      erased = redis.call('GET', tombstone)
    end
    redis.call('SET', tombstone, erased, 'PX', tombstone_ttl)
    redis.call('DEL', keys[10 + n + 2 * i])
    refuse_up_to(k, kept, user, tonumber(erased))
  end
  if log ~= '' then
    if clock > new_clock then
      new_clock = clock
    else
      redis.call('HSET', k.meta, 'clock:' .. log, argv[6])
    end
    redis.call('HSET', k.meta, 'offset:' .. log, argv[5])
  end
  if held ~= epoch then
    redis.call('HSET', k.meta, 'epoch:' .. stage, epoch)
  end
  return { 'saved', to or -1, new_clock or -1, conflated }
end

-- claim: ARGV stage, epoch, outcomes kept, lease in ms, take, show. First gives up leases that have run out, then takes.
-- Returns 'claimed' and (user, run id, attempt, blob) of each taken; with take 0, the as-ofs of the newest that wait.
local function claim(keys, argv)
  local k, stage, epoch, kept = shard_of(keys), argv[1], argv[2], argv[3]
  natural(kept, 'outcomes kept')
  local lease, take, show = natural(argv[4], 'lease'), natural(argv[5], 'take'), natural(argv[6], 'show')
  local fenced = fence(k, stage, epoch)
  if fenced then
    return { 'fenced', fenced }
  end
  check_queue(k)
  local now = now_ms()
  local expired = redis.call('ZRANGEBYSCORE', k.lease, '-inf', now, 'LIMIT', 0, MOST_EXPIRED)
  for _, user in ipairs(expired) do
    local request = redis.call('HGET', k.lease_requests, user)
    local newer_waits = redis.call('HEXISTS', k.wait_requests, user) == 1
    remove_lease(k, user)
    local _, as_of, run_id = parse_request(request)
    if newer_waits then
      ended(k, kept, 'conflated', user, run_id)
    else
      redis.call('HSET', k.wait_requests, user, request)
      redis.call('ZADD', k.wait, as_of, user)
    end
  end
  local reply = { 'claimed' }
  if take == 0 then
    local newest = redis.call('ZREVRANGE', k.wait, 0, show - 1, 'WITHSCORES')
    for i = 2, show > 0 and #newest or 0, 2 do
      reply[#reply + 1] = newest[i]
    end
    return reply
  end
  for _, user in ipairs(redis.call('ZREVRANGE', k.wait, 0, take - 1)) do
    local attempt, as_of, run_id, blob_at = parse_request(redis.call('HGET', k.wait_requests, user))
    local blob = string.sub(redis.call('HGET', k.wait_requests, user), blob_at)
    attempt = string.format('%d', attempt + 1)
    remove_waiting(k, user)
    redis.call('HSET', k.lease_requests, user, attempt .. ' ' .. as_of .. ' ' .. run_id .. ' ' .. blob)
    redis.call('ZADD', k.lease, now + lease, user)
    for _, value in ipairs({ user, run_id, attempt, blob }) do
      reply[#reply + 1] = value
    end
  end
  return reply
end

-- extend: ARGV stage, epoch, lease in ms, then (user, run id). Returns 'extended' and how many leases were still held.
local function extend(keys, argv)
  local k, lease = shard_of(keys), natural(argv[3], 'lease')
  local fenced = fence(k, argv[1], argv[2])
  if fenced then
    return { 'fenced', fenced }
  end
  check_queue(k)
  local until_ms, held = now_ms() + lease, 0
  for i = 4, #argv, 2 do
    local request = redis.call('HGET', k.lease_requests, argv[i])
    if request and select(3, parse_request(request)) == argv[i + 1] then
      redis.call('ZADD', k.lease, until_ms, argv[i])
      held = held + 1
    end
  end
  return { 'extended', held }
end

-- Where a shopper's request of this run is: its remover, or nil.
local function find_request(k, user, run_id)
  local leased, waiting = redis.call('HGET', k.lease_requests, user), redis.call('HGET', k.wait_requests, user)
  if leased and select(3, parse_request(leased)) == run_id then
    return remove_lease
  elseif waiting and select(3, parse_request(waiting)) == run_id then
    return remove_waiting
  end
  return nil
end

-- finish: ARGV stage, epoch, outcomes kept, user, run id, outcome. Returns 'finished' and whether the request was there.
local OUTCOMES = { published = 1, malformed = 1, expired = 1, exhausted = 1, refused = 1 }
local function finish(keys, argv)
  local k, kept, user, run_id, outcome = shard_of(keys), argv[3], argv[4], argv[5], argv[6]
  natural(kept, 'outcomes kept')
  if not OUTCOMES[outcome] then
    fail('finish: no such outcome: ' .. tostring(outcome))
  end
  local fenced = fence(k, argv[1], argv[2])
  if fenced then
    return { 'fenced', fenced }
  end
  check_queue(k)
  local remove = find_request(k, user, run_id)
  if not remove then
    return { 'finished', 0 }
  end
  remove(k, user)
  ended(k, kept, outcome, user, run_id)
  return { 'finished', 1 }
end

-- The runs of a shopper, newest first: each `<as-of> <promotion> <run id> <bytes> ` and that many bytes.
local function parse_runs(value)
  local runs, at = {}, 1
  while at <= #value do
    local as_of, promotion, run_id, bytes, blob_at = string.match(value, '^(%d+) (%d+) (%S+) (%d+) ()', at)
    if not as_of or blob_at + bytes - 1 > #value then
      fail('the stored runs cannot be read')
    end
    local past = blob_at + bytes
    runs[#runs + 1] = {
      as_of = tonumber(as_of), promotion = tonumber(promotion), run_id = run_id,
      blob = string.sub(value, blob_at, past - 1), whole = string.sub(value, at, past - 1),
    }
    at = past
  end
  return runs
end

-- publish: KEYS shard, runs, tombstone. ARGV 1 stage, 2 epoch, 3 outcomes kept, 4 user, 5 run id, 6 as-of, 7 promotion,
-- 8 model version, 9 blob, 10 runs kept, 11 TTL, 12 whether to end the request ('1') or leave that to finish ('0').
-- Returns 'published', 'repeated' (and the blob that is stored), 'older', 'refused' or 'unknown'.
local function publish(keys, argv)
  local k, runs_key, tombstone = shard_of(keys), keys[10], keys[11]
  local kept, user, run_id, blob = argv[3], argv[4], word(argv[5], 'run id'), argv[9]
  local as_of, promotion = natural(argv[6], 'as-of'), natural(argv[7], 'promotion')
  local runs_kept = natural(argv[10], 'runs kept')
  natural(kept, 'outcomes kept')
  if natural(argv[11], 'TTL') < 1 or runs_kept < 1 or (argv[12] ~= '0' and argv[12] ~= '1') then
    fail('publish: TTL or runs kept is 0, or it is not said whether the request ends')
  end
  local fenced = fence(k, argv[1], argv[2])
  if fenced then
    return { 'fenced', fenced }
  end
  check_queue(k)
  local remove = find_request(k, user, run_id)
  local function finally(result, outcome, stored)
    if remove and argv[12] == '1' then
      remove(k, user)
      ended(k, kept, outcome, user, run_id)
    end
    return { result, stored }
  end

  local erased = natural(redis.call('GET', tombstone) or '0', 'stored tombstone')
  if redis.call('SISMEMBER', k.revoked, argv[8]) == 1 or as_of <= erased then
    return finally('refused', 'refused')
  end
  local runs, place, same = parse_runs(redis.call('GET', runs_key) or ''), 1, nil
  for i, run in ipairs(runs) do
    if run.run_id == run_id and run.promotion >= promotion then
      return finally('repeated', 'published', run.blob)
    end
    if run.as_of == as_of then
      same = i
    end
    if run.as_of > as_of then
      place = i + 1
    end
  end
  if not remove then
    return { 'unknown' }
  end
  if (same and runs[same].promotion >= promotion) or place > runs_kept then
    return finally('older', 'conflated')
  end
  if same then
    table.remove(runs, same)
  end
  local header = argv[6] .. ' ' .. argv[7] .. ' ' .. run_id .. ' ' .. #blob .. ' '
  table.insert(runs, place, { whole = header .. blob })
  local value = {}
  for i = 1, math.min(#runs, runs_kept) do
    value[i] = runs[i].whole
  end
  redis.call('SET', runs_key, table.concat(value), 'PX', argv[11])
  return finally('published', 'published', blob)
end

redis.register_function('aigq_v1_begin', begin)
redis.register_function('aigq_v1_save', save)
redis.register_function('aigq_v1_claim', claim)
redis.register_function('aigq_v1_extend', extend)
redis.register_function('aigq_v1_publish', publish)
redis.register_function('aigq_v1_finish', finish)
