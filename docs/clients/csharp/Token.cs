// Gets an iSHARE access token with nothing but .NET 10 or later.
//
//   dotnet run Token.cs                   print an access token
//   dotnet run Token.cs URL               GET the URL with one, and print the answer
//   dotnet run Token.cs -- --assertion    print an assertion, unsent, for waybill explain
using System.Buffers.Text;
using System.Net.Http.Headers;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using System.Text.Json.Nodes;

string server = Setting("ISHARE_SERVER");
string audience = Setting("ISHARE_AUDIENCE");
string clientId = Setting("ISHARE_CLIENT_ID");
string key = Setting("ISHARE_KEY");
string certificates = Setting("ISHARE_CERTIFICATES");

using var http = new HttpClient();
Console.WriteLine(args switch
{
    [] => await Token(),
    ["--assertion"] => Assertion(),
    _ => await Get(args[0]),
});

string Setting(string name) =>
    Environment.GetEnvironmentVariable(name) ?? throw new ArgumentException($"set {name}");

async Task<string> Get(string url)
{
    var request = new HttpRequestMessage(HttpMethod.Get, url);
    request.Headers.Authorization = new AuthenticationHeaderValue("Bearer", await Token());
    return await Send(request);
}

async Task<string> Token()
{
    var form = new FormUrlEncodedContent(new Dictionary<string, string>
    {
        ["grant_type"] = "client_credentials",
        ["scope"] = "iSHARE",
        ["client_id"] = clientId,
        ["client_assertion_type"] = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        ["client_assertion"] = Assertion(),
    });
    string answer = await Send(new HttpRequestMessage(HttpMethod.Post, server + "/connect/token") { Content = form });
    return JsonNode.Parse(answer)!["access_token"]!.GetValue<string>();
}

// Assertion makes a new one. It is good for one request within 30 seconds.
string Assertion()
{
    long now = DateTimeOffset.UtcNow.ToUnixTimeSeconds();
    var header = new JsonObject { ["alg"] = "RS256", ["typ"] = "JWT", ["x5c"] = X5c() };
    var payload = new JsonObject
    {
        ["iss"] = clientId,
        ["sub"] = clientId,
        ["aud"] = audience,
        ["jti"] = Guid.NewGuid().ToString(),
        ["iat"] = now,
        ["exp"] = now + 30,
    };
    string signed = Encode(header) + "." + Encode(payload);
    using var rsa = RSA.Create();
    rsa.ImportFromPem(File.ReadAllText(key));
    byte[] signature = rsa.SignData(Encoding.ASCII.GetBytes(signed), HashAlgorithmName.SHA256, RSASignaturePadding.Pkcs1);
    return signed + "." + Base64Url.EncodeToString(signature);
}

string Encode(JsonObject part) => Base64Url.EncodeToString(Encoding.UTF8.GetBytes(part.ToJsonString()));

// X5c is standard base64 of the DER, leaf first as in the file.
JsonArray X5c()
{
    var chain = new X509Certificate2Collection();
    chain.ImportFromPemFile(certificates);
    var entries = new JsonArray();
    foreach (X509Certificate2 certificate in chain)
    {
        entries.Add((JsonNode)Convert.ToBase64String(certificate.RawData));
    }
    return entries;
}

async Task<string> Send(HttpRequestMessage request)
{
    using HttpResponseMessage answer = await http.SendAsync(request);
    string body = await answer.Content.ReadAsStringAsync();
    if (!answer.IsSuccessStatusCode) // the reason is in the body
    {
        throw new HttpRequestException($"HTTP {(int)answer.StatusCode}: {body}");
    }
    return body;
}
