package ishare

// TokenPath is where the token endpoint is, below the base URL of a server (iSHARE 3.0, access
// token).
const TokenPath = "/connect/token"
