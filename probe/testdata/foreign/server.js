// An OAuth server that is none of iSHARE: it authenticates a client by private_key_jwt, with a key that was registered, and
// has never heard of x5c. What is told of it comes in the environment; it prints its address.
import { createServer } from 'node:http'
import { createPublicKey } from 'node:crypto'
import Provider from 'oidc-provider'

const { CLIENT_ID, CLIENT_KEY, AUDIENCE } = process.env
const server = createServer()
server.listen(0, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`
  const provider = new Provider(issuer, {
    clients: [{
      client_id: CLIENT_ID,
      token_endpoint_auth_method: 'private_key_jwt',
      jwks: { keys: [createPublicKey(CLIENT_KEY).export({ format: 'jwk' })] },
      grant_types: ['client_credentials'],
      redirect_uris: [],
      response_types: [],
      scope: 'iSHARE',
    }],
    scopes: ['iSHARE'],
    features: { clientCredentials: { enabled: true }, devInteractions: { enabled: false } },
    enabledJWA: { clientAuthSigningAlgValues: ['RS256', 'RS384', 'RS512', 'PS256'] },
    routes: { token: '/connect/token' },
  })
  // The party identifier is an audience besides those of OpenID Connect.
  const own = provider.OIDCContext.prototype.clientJwtAuthExpectedAudience
  provider.OIDCContext.prototype.clientJwtAuthExpectedAudience = function () { return own.call(this).add(AUDIENCE) }
  server.on('request', provider.callback())
  console.log(issuer)
})
