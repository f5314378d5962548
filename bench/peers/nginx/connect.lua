-- Connects answered from a shared dict. The key is the agent with a digest of its secret, so that
-- only who presents the secret gets the answer. The answer itself lies there in the clear.
local ffi = require "ffi"
local cjson = require "cjson.safe"
local grants = ngx.shared.grants
local digest, digest_len = ffi.new("unsigned char[32]"), ffi.new("unsigned int[1]")
local connect = {}

local function key_of(agent, secret)
    local said = agent .. "\0" .. secret
    ffi.C.HMAC(ffi.C.EVP_sha256(), "connects", 8, said, #said, digest, digest_len)
    return ffi.string(digest, 32)
end

function connect.serve()
    ngx.req.read_body()
    local said = cjson.decode(ngx.req.get_body_data() or "")
    if not said or type(said.secret) ~= "string" then return ngx.exit(400) end
    local key = key_of(ngx.var.agent, said.secret)
    local body = grants:get(key)
    if not body then
        local answer = ngx.location.capture("/ask" .. ngx.var.uri,
            { method = ngx.HTTP_POST, body = ngx.req.get_body_data() })
        body = answer.body
        if answer.status == 201 then grants:set(key, body, 3600) end
    end
    ngx.status = 201
    ngx.header["Content-Type"] = "application/json; charset=utf-8"
    ngx.header["Content-Length"] = #body
    ngx.print(body)
end

return connect
