import java.io.InputStream;
import java.net.URI;
import java.net.URLEncoder;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyFactory;
import java.security.PrivateKey;
import java.security.Signature;
import java.security.cert.Certificate;
import java.security.cert.CertificateFactory;
import java.security.spec.PKCS8EncodedKeySpec;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;

/**
 * Gets an iSHARE access token with nothing but the JDK, 11 or later.
 *
 * <pre>
 * java Token.java                print an access token
 * java Token.java URL            GET the URL with one, and print the answer
 * java Token.java --assertion    print an assertion, unsent, for waybill explain
 * </pre>
 */
public class Token {
    static final String SERVER = setting("ISHARE_SERVER");
    static final String AUDIENCE = setting("ISHARE_AUDIENCE");
    static final String CLIENT_ID = setting("ISHARE_CLIENT_ID");
    static final Path KEY = Path.of(setting("ISHARE_KEY"));
    static final Path CERTIFICATES = Path.of(setting("ISHARE_CERTIFICATES"));

    public static void main(String[] args) throws Exception {
        if (args.length == 0) {
            System.out.println(token());
        } else if (args[0].equals("--assertion")) {
            System.out.println(assertion());
        } else {
            HttpRequest.Builder get = HttpRequest.newBuilder(URI.create(args[0]));
            System.out.println(send(get.header("Authorization", "Bearer " + token())));
        }
    }

    static String setting(String name) {
        String value = System.getenv(name);
        if (value == null || value.isEmpty()) {
            throw new IllegalArgumentException("set " + name);
        }
        return value;
    }

    /** Asks for a token. */
    static String token() throws Exception {
        Map<String, String> form = Map.of(
            "grant_type", "client_credentials",
            "scope", "iSHARE",
            "client_id", CLIENT_ID,
            "client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion", assertion());
        String body = form.entrySet().stream()
            .map(e -> e.getKey() + "=" + URLEncoder.encode(e.getValue(), StandardCharsets.UTF_8))
            .collect(Collectors.joining("&"));
        String answer = send(HttpRequest.newBuilder(URI.create(SERVER + "/connect/token"))
            .header("Content-Type", "application/x-www-form-urlencoded")
            .POST(HttpRequest.BodyPublishers.ofString(body)));
        // The JDK has no JSON reader. In a program, use the one that you have.
        Matcher token = Pattern.compile("\"access_token\"\\s*:\\s*\"([^\"]+)\"").matcher(answer);
        if (!token.find()) {
            throw new IllegalStateException("the answer holds no access_token");
        }
        return token.group(1);
    }

    /** A new assertion. It is good for one request within 30 seconds. */
    static String assertion() throws Exception {
        long now = Instant.now().getEpochSecond();
        String header = "{\"alg\":\"RS256\",\"typ\":\"JWT\",\"x5c\":[" + String.join(",", x5c()) + "]}";
        String payload = String.format(
            "{\"iss\":\"%s\",\"sub\":\"%s\",\"aud\":\"%s\",\"jti\":\"%s\",\"iat\":%d,\"exp\":%d}",
            CLIENT_ID, CLIENT_ID, AUDIENCE, UUID.randomUUID(), now, now + 30);
        String signed = base64url(header.getBytes(StandardCharsets.UTF_8))
            + "." + base64url(payload.getBytes(StandardCharsets.UTF_8));
        Signature rs256 = Signature.getInstance("SHA256withRSA");
        rs256.initSign(key());
        rs256.update(signed.getBytes(StandardCharsets.US_ASCII));
        return signed + "." + base64url(rs256.sign());
    }

    /** The certificates as JSON strings: standard base64 of the DER, leaf first as in the file. */
    static List<String> x5c() throws Exception {
        List<String> entries = new ArrayList<>();
        try (InputStream in = Files.newInputStream(CERTIFICATES)) {
            for (Certificate c : CertificateFactory.getInstance("X.509").generateCertificates(in)) {
                entries.add('"' + Base64.getEncoder().encodeToString(c.getEncoded()) + '"');
            }
        }
        return entries;
    }

    /** Reads PKCS#8, which begins with BEGIN PRIVATE KEY. */
    static PrivateKey key() throws Exception {
        String body = Files.readString(KEY).replaceAll("-----(BEGIN|END) PRIVATE KEY-----", "");
        return KeyFactory.getInstance("RSA")
            .generatePrivate(new PKCS8EncodedKeySpec(Base64.getMimeDecoder().decode(body)));
    }

    static String base64url(byte[] bytes) {
        return Base64.getUrlEncoder().withoutPadding().encodeToString(bytes);
    }

    static String send(HttpRequest.Builder request) throws Exception {
        HttpResponse<String> answer = HttpClient.newHttpClient()
            .send(request.timeout(Duration.ofSeconds(30)).build(), HttpResponse.BodyHandlers.ofString());
        if (answer.statusCode() != 200) { // the reason is in the body
            throw new IllegalStateException("HTTP " + answer.statusCode() + ": " + answer.body());
        }
        return answer.body();
    }
}
