-- HS256 tokens in nginx: libcrypto's HMAC through LuaJIT, and a cache of verified tokens as
-- lua-resty-lrucache offers it. As fast as the lua module lets one be.
local ffi = require "ffi"
local cjson = require "cjson.safe"
local lrucache = require "resty.lrucache"

ffi.cdef [[
const void *EVP_sha256(void);
unsigned char *HMAC(const void *md, const void *key, int key_len, const unsigned char *data,
                    size_t len, unsigned char *out, unsigned int *out_len);
int CRYPTO_memcmp(const void *a, const void *b, size_t len);
]]

local C, secret, verified = ffi.C, nil, lrucache.new(20000)
local digest, digest_len = ffi.new("unsigned char[32]"), ffi.new("unsigned int[1]")
local statuses = { online = true, busy = true, idle = true }
local rates = ngx.shared.rates
local bearer = {}

function bearer.init(key) secret = key end

local function decode(text)
    text = text:gsub("-", "+"):gsub("_", "/")
    return ngx.decode_base64(text .. ("="):rep(-#text % 4))
end

local function verify(token)
    local head, claims, signature = token:match("^([%w_-]+)%.([%w_-]+)%.([%w_-]+)$")
    if not head then return nil end
    local header = cjson.decode(decode(head) or "")
    if not header or header.alg ~= "HS256" then return nil end
    local signed = head .. "." .. claims
    C.HMAC(C.EVP_sha256(), secret, #secret, signed, #signed, digest, digest_len)
    local given = decode(signature)
    if not given or #given ~= 32 or C.CRYPTO_memcmp(digest, given, 32) ~= 0 then return nil end
    local found = cjson.decode(decode(claims) or "")
    if not found or type(found.exp) ~= "number" then return nil end
    local entry = { sub = found.sub, exp = found.exp }
    verified:set(token, entry)
    return entry
end

local function refuse(status, message)
    ngx.status = status
    ngx.header["Content-Type"] = "application/json; charset=utf-8"
    local body = '{"statusCode":' .. status .. ',"message":"' .. message .. '"}'
    ngx.header["Content-Length"] = #body
    ngx.print(body)
    return ngx.exit(status)
end

function bearer.check()
    local value = ngx.var.http_authorization
    local token = value and value:match("^Bearer (%S+)$")
    local claims = token and (verified:get(token) or verify(token))
    if not claims or claims.exp <= ngx.time() then return refuse(401, "Unauthorized") end
    return claims
end

function bearer.acknowledge()
    local claims = bearer.check()
    if claims.sub ~= ngx.var.agent then return refuse(403, "Forbidden") end
    local beats = rates:incr(claims.sub .. ngx.time(), 1, 0, 2)
    if beats and beats > 1000 then return refuse(429, "Too Many Requests") end
    ngx.req.read_body()
    local body = cjson.decode(ngx.req.get_body_data() or "")
    if not body or not statuses[body.status] then return refuse(400, "Validation failed") end
    ngx.status = 201
    ngx.header["Content-Type"] = "application/json; charset=utf-8"
    ngx.header["Content-Length"] = 16
    ngx.print('{"success":true}')
end

return bearer
