import java.util.jar.JarOutputStream;
import java.nio.file.Files;
import java.nio.file.Path;

/**
 * Beam's Flink job server without staging: its driver would upload its whole class path (225 MB) with every job.
 * It takes the class path from a system property; here that names an empty jar, and the cluster has Beam's jars itself.
 */
public class FlinkJobServer {
  public static void main(String[] arguments) throws Exception {
    Path empty = Files.createTempFile("empty", ".jar");
    empty.toFile().deleteOnExit();
    new JarOutputStream(Files.newOutputStream(empty), new java.util.jar.Manifest()).close();
    System.setProperty("java.class.path", empty.toString());
    Class.forName("org.apache.beam.runners.flink.FlinkJobServerDriver")
        .getMethod("main", String[].class)
        .invoke(null, (Object) arguments);
  }
}
