#!lua name=aigq_v1

-- The server's side of the store: every step that must happen whole or not at all. A new meaning of a function or of a stored
-- value is a new library (aigq_v2, ...), so that two versions of the job can run beside each other.
--
-- A failing call does not undo what it has written. So each function first reads everything it will write (which also checks
-- each key's type) and checks every argument, and only then writes. It touches the keys it is given and no others, and uses
-- commands that Redis 7 and Valkey share. Arguments stay strings: numbers are only compared.
--
-- KEYS begins with the shard's own ten keys, in the order of store/layout.py:SHARD_KEYS.


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
    wait_requests = keys[7], lease_requests = keys[8], revoked = keys[9], low = keys[10],
  }
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

redis.register_function('aigq_v1_begin', begin)
