-- The queue: a shopper has at most one request that waits and one in flight. Each ends in exactly one outcome. A request of
-- low priority (a backfill's) waits in a set of its own and is taken where no other one waits.

local MOST_EXPIRED = 1000 -- leases that one claim gives up

local function check_queue(k) -- an error here, before the first write, if a key holds another type
  redis.call('HLEN', k.counts)
  redis.call('XLEN', k.outcomes)
  redis.call('ZCARD', k.wait)
  redis.call('ZCARD', k.parked)
  redis.call('ZCARD', k.low)
  redis.call('ZCARD', k.lease)
  redis.call('HLEN', k.wait_requests)
  redis.call('HLEN', k.lease_requests)
end

-- A function of the queue: ARGV begins with stage and epoch, and a fenced writer does nothing.
local function register(name, call)
  redis.register_function('aigq_v1_' .. name, function(keys, argv)
    local k = shard_of(keys)
    local fenced = fence(k, argv[1], argv[2])
    if fenced then
      return { 'fenced', fenced }
    end
    check_queue(k)
    return call(k, argv, keys)
  end)
end

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Requests are kept as `<attempt> <as-of> <run id> <blob>`; `<attempt>+` once a list of this run is stored, which it is for a
-- moment where the writer has more to do before it ends the request, and for longer where it died in that moment; `<attempt>~`
-- where it is of low priority (`<attempt>+~` both).
local function parse_request(value)
  local attempt, listed, low, as_of, run_id, blob_at = string.match(value, '^(%d+)(%+?)(~?) (%d+) (%S+) ()')
  if not attempt then
    fail('a stored request cannot be read')
  end
  return {
    attempt = attempt, listed = listed, low = low, as_of = as_of, run_id = run_id, blob = string.sub(value, blob_at),
  }
end

local function write_request(key, user, request)
  local header = request.attempt .. request.listed .. request.low .. ' ' .. request.as_of .. ' ' .. request.run_id .. ' '
  redis.call('HSET', key, user, header .. request.blob)
end

-- Counts the end of a request. One whose list is stored ends as published, whatever ends it: as if its writer had lived.
local function ended(k, kept, outcome, user, request)
  outcome = request.listed == '+' and 'published' or outcome
  redis.call('HINCRBY', k.counts, outcome, 1)
  redis.call('XADD', k.outcomes, 'MAXLEN', '~', kept, '*', 'run', request.run_id, 'user', user, 'outcome', outcome,
    'as_of', request.as_of, 'low', request.low)
  return outcome
end

local function remove_waiting(k, user)
  redis.call('HDEL', k.wait_requests, user)
  redis.call('ZREM', k.wait, user)
  redis.call('ZREM', k.parked, user)
  redis.call('ZREM', k.low, user)
end

local function wait_of(k, request)
  return request.low == '~' and k.low or k.wait
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

-- The request of a shopper that waits and the one in flight, each with its key and what removes it; nil where there is none.
local function requests_of(k, user)
  local function read(key, remove)
    local value = redis.call('HGET', key, user)
    local request = value and parse_request(value) or nil
    if request then
      request.key, request.remove = key, remove
    end
    return request
  end
  return read(k.wait_requests, remove_waiting), read(k.lease_requests, remove_lease)
end

local function find_request(k, user, run_id)
  local waiting, leased = requests_of(k, user)
  return leased and leased.run_id == run_id and leased or waiting and waiting.run_id == run_id and waiting or nil
end

-- Puts a fired request into the shopper's one waiting slot. Returns how many requests were conflated.
local function offer(k, kept, user, run_id, as_of, blob)
  local fired = { attempt = '0', listed = '', low = '', as_of = as_of, run_id = run_id, blob = blob }
  local waiting, leased = requests_of(k, user)
  for _, held in pairs({ waiting, leased }) do
    if held.run_id == run_id then
      return 0
    end
  end
  local late = waiting and tonumber(waiting.as_of) > tonumber(as_of)
  redis.call('HINCRBY', k.counts, 'fired', 1)
  local outcome = waiting and ended(k, kept, 'conflated', user, late and fired or waiting)
  local stays = late and waiting or fired
  stays.low = '' -- also one of low priority that takes the place of a change that came due: a shopper waits for it now
  write_request(k.wait_requests, user, stays)
  redis.call('ZREM', k.low, user)
  redis.call('ZADD', leased and k.parked or k.wait, stays.as_of, user)
  return outcome == 'conflated' and 1 or 0
end

local function refuse_up_to(k, kept, user, erased)
  local waiting, leased = requests_of(k, user)
  for _, request in pairs({ waiting, leased }) do
    if tonumber(request.as_of) <= erased then
      request.remove(k, user)
      ended(k, kept, 'refused', user, request)
    end
  end
end

local function give_up_leases(k, kept, now)
  for _, user in ipairs(redis.call('ZRANGEBYSCORE', k.lease, '-inf', now, 'LIMIT', 0, MOST_EXPIRED)) do
    local waiting, leased = requests_of(k, user)
    remove_lease(k, user)
    if waiting then
      ended(k, kept, 'conflated', user, leased)
    else
      write_request(k.wait_requests, user, leased)
      redis.call('ZADD', wait_of(k, leased), leased.as_of, user)
    end
  end
end

-- The newest that wait, at most `most`, those of low priority after all others; each followed by its as-of, of low priority as
-- the negative of what is left to the end of time, so that one order holds for both.
local LAST = 1e15
local function newest_waiting(k, most)
  local found = redis.call('ZREVRANGE', k.wait, 0, most - 1, 'WITHSCORES')
  local low = #found < 2 * most and redis.call('ZREVRANGE', k.low, 0, most - #found / 2 - 1, 'WITHSCORES') or {}
  for i = 1, #low, 2 do
    found[#found + 1] = low[i]
    found[#found + 1] = string.format('%d', low[i + 1] - LAST)
  end
  return found
end

-- claim: ARGV stage, epoch, outcomes kept, lease in ms, take, show, token. First gives up leases that have run out, then takes.
-- Returns 'claimed' and (user, run id, attempt, blob) of each taken; with take 0, the as-ofs of the newest that wait, those of
-- low priority below 0. Called again with the token of the last claim of this shard, because its answer was lost: what that
-- claim took.
register('claim', function(k, argv)
  local kept, token = argv[3], word(argv[7], 'token')
  natural(kept, 'outcomes kept')
  local lease, take, show = natural(argv[4], 'lease'), natural(argv[5], 'take'), natural(argv[6], 'show')
  local now, reply = now_ms(), { 'claimed' }
  give_up_leases(k, kept, now)
  if take == 0 then
    local newest = show > 0 and newest_waiting(k, show) or {}
    for i = 2, #newest, 2 do
      reply[#reply + 1] = newest[i]
    end
    return reply
  end
  local last = redis.call('HGET', k.meta, 'claim')
  local claimed = last and cmsgpack.unpack(last) or {}
  if claimed.token ~= token then
    claimed = { token = token, users = {} }
    for i, user in ipairs(newest_waiting(k, take)) do
      claimed.users[(i + 1) / 2] = i % 2 == 1 and user or nil
    end
    for _, user in ipairs(claimed.users) do
      local request = requests_of(k, user)
      request.attempt = string.format('%d', request.attempt + 1)
      remove_waiting(k, user)
      write_request(k.lease_requests, user, request)
      redis.call('ZADD', k.lease, now + lease, user)
    end
    redis.call('HSET', k.meta, 'claim', cmsgpack.pack(claimed))
  end
  for _, user in ipairs(claimed.users) do
    local _, request = requests_of(k, user)
    for _, value in ipairs(request and { user, request.run_id, request.attempt, request.blob } or {}) do
      reply[#reply + 1] = value
    end
  end
  return reply
end)

-- extend: ARGV stage, epoch, lease in ms, then (user, run id). Returns 'extended' and how many leases were still held.
register('extend', function(k, argv)
  local until_ms, held = now_ms() + natural(argv[3], 'lease'), 0
  for i = 4, #argv, 2 do
    local _, leased = requests_of(k, argv[i])
    if leased and leased.run_id == argv[i + 1] then
      redis.call('ZADD', k.lease, until_ms, argv[i])
      held = held + 1
    end
  end
  return { 'extended', held }
end)

-- finish: ARGV stage, epoch, outcomes kept, user, run id, outcome. Returns 'finished' and whether that ended the request.
-- As published it ends only where its list is stored: a store that went back in time may have lost the list, and makes it again.
local OUTCOMES = { published = 1, malformed = 1, expired = 1, exhausted = 1, refused = 1, cancelled = 1 }
register('finish', function(k, argv)
  local kept, user, run_id, outcome = argv[3], argv[4], argv[5], argv[6]
  natural(kept, 'outcomes kept')
  if not OUTCOMES[outcome] then
    fail('finish: no such outcome: ' .. tostring(outcome))
  end
  local request = find_request(k, user, run_id)
  if not request or (outcome == 'published' and request.listed ~= '+') then
    return { 'finished', 0 }
  end
  request.remove(k, user)
  ended(k, kept, outcome, user, request)
  return { 'finished', 1 }
end)
