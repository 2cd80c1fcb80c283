import org.flywaydb.core.Flyway;

/** Flyway's own `migrate`, over its library: its command line is not among Maven Central's artifacts. */
public class Migrate {
    public static void main(String[] arguments) {
        Flyway.configure()
                .dataSource(arguments[0], arguments[1], arguments[2])
                .locations("filesystem:" + arguments[3])
                .load()
                .migrate();
    }
}
