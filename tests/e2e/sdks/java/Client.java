// Asks the metadata service as mssql-jdbc does: HttpURLConnection, and numbers read as text. One order a line in, the
// answer's status and body out.
import java.io.BufferedReader;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.net.HttpURLConnection;
import java.net.Proxy;
import java.net.URL;
import java.net.URLEncoder;
import java.nio.charset.StandardCharsets;

public class Client {
    public static void main(String[] arguments) throws Exception {
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String resource = lines.readLine(); resource != null; resource = lines.readLine()) {
            String query = "resource=" + URLEncoder.encode(resource, StandardCharsets.UTF_8) + "&api-version=2018-02-01";
            URL url = new URL("http://169.254.169.254/metadata/identity/oauth2/token?" + query);
            HttpURLConnection connection = (HttpURLConnection) url.openConnection(Proxy.NO_PROXY);
            connection.setRequestProperty("Metadata", "true");
            connection.setConnectTimeout(5000);
            int status = connection.getResponseCode();
            InputStream stream = status < 400 ? connection.getInputStream() : connection.getErrorStream();
            String body = new String(stream.readAllBytes(), StandardCharsets.UTF_8);
            System.out.println(status + " " + body.replace("\n", " "));
        }
    }
}
