import com.azure.core.credential.TokenCredential;
import com.azure.core.credential.TokenRequestContext;
import com.azure.identity.ManagedIdentityCredentialBuilder;
import com.azure.identity.WorkloadIdentityCredentialBuilder;
import com.azure.json.JsonProviders;
import com.azure.json.JsonReader;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.Map;

/** Asks for tokens as an ordinary program with azure-identity: one JSON order a line in, one JSON answer a line out. */
public final class Client {
    public static void main(String[] arguments) throws Exception {
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in));
        for (String line = input.readLine(); line != null; line = input.readLine()) {
            try (JsonReader reader = JsonProviders.createReader(line)) {
                System.out.println(answer(reader.readMap(JsonReader::readUntyped)));
            }
        }
        System.exit(0);
    }

    private static String answer(Map<String, Object> order) {
        TokenCredential credential = Boolean.TRUE.equals(order.get("managed"))
            ? new ManagedIdentityCredentialBuilder().clientId((String) order.get("clientId")).build()
            : new WorkloadIdentityCredentialBuilder().build();
        try {
            TokenRequestContext request = new TokenRequestContext().addScopes((String) order.get("scope"));
            return "{\"token\": \"" + credential.getTokenSync(request).getToken() + "\"}";
        } catch (RuntimeException problem) {
            StringBuilder said = new StringBuilder();
            for (Throwable cause = problem; cause != null; cause = cause.getCause()) {
                said.append(cause).append("; ");
            }
            return "{\"error\": \"" + said.toString().replaceAll("[\"\\\\\\s]+", " ") + "\"}";
        }
    }
}
