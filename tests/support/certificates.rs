//! A server that speaks TLS, and certificates for it and its clients, as openssl makes them.

use std::path::PathBuf;

use belay::postgres::ClientCertificate;

use super::postgres::{Postgres, run, unprivileged};

/// Two authorities, and what they signed: `server` and `expired-server` for localhost; `client`, `expired-client` and, by the
/// other authority, `other-client` for a login. `self-signed` is its own authority.
pub struct Certificates {
    directory: PathBuf,
}

/// In the folder $0, for the login $1.
const MAKE: &str = r#"set -e
cd "$0"
umask 077
key() { openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes "$@"; }
authority() { key -x509 -days 2 -subj "/CN=$2" -keyout "$1.key" -out "$1.crt"; }
sign() { # an authority, a file, a name, the dates
  local ca=$1 file=$2 name=$3; shift 3
  key -subj "/CN=$name" -keyout "$file.key" -out "$file.csr"
  printf 'subjectAltName=DNS:%s\n' "$name" > "$file.ext"
  openssl ca -batch -notext -config ca.cnf -cert "$ca.crt" -keyfile "$ca.key" -extfile "$file.ext" -in "$file.csr" -out "$file.crt" "$@"
}
printf '%s\n' '[ca]' 'default_ca = d' '[d]' 'database = index' 'new_certs_dir = .' 'rand_serial = yes' \
  'unique_subject = no' 'default_md = sha256' 'policy = p' '[p]' 'commonName = supplied' > ca.cnf
: > index
past='-startdate 20200101000000Z -enddate 20200102000000Z'
authority ca 'Test CA'
authority other-ca 'Another CA'
authority self-signed localhost
sign ca server localhost -days 2
sign ca expired-server localhost $past
sign ca client "$1" -days 2
sign ca expired-client "$1" $past
sign other-ca other-client "$1" -days 2
"#;

impl Certificates {
    /// Turns TLS on at a server: for clients of `login`, under these lines of pg_hba.conf besides the superuser's.
    pub fn serve(server: &Postgres, login: &str, hba: &str) -> Self {
        let directory = server.directory().join("certificates");
        assert!(unprivileged("mkdir").arg(&directory).status().expect("mkdir").success());
        run(unprivileged("bash").args(["-c", MAKE]).arg(&directory).arg(login));
        let certificates = Self { directory };
        server.write("pg_hba.conf", &format!("local all postgres trust\n{hba}\n"));
        certificates.present(server, "server");
        certificates
    }

    /// Has the server show this certificate from now on.
    pub fn present(&self, server: &Postgres, name: &str) {
        let files = self.directory.display();
        let configuration = format!(
            "ssl = on\nssl_cert_file = '{files}/{name}.crt'\nssl_key_file = '{files}/{name}.key'\nssl_ca_file = '{files}/ca.crt'\n"
        );
        server.write("postgresql.auto.conf", &configuration);
        server.stop_fast();
        server.start_again();
    }

    /// A file, in PEM.
    pub fn pem(&self, file: &str) -> Vec<u8> {
        let output = unprivileged("cat").arg(self.directory.join(file)).output().expect("cat");
        assert!(output.status.success(), "there is no {file}");
        output.stdout
    }

    /// The authority that signed what the server shows.
    pub fn ca(&self) -> Vec<u8> {
        self.pem("ca.crt")
    }

    /// A certificate and its key.
    pub fn client(&self, name: &str) -> ClientCertificate {
        let (certificate, key) = (self.pem(&format!("{name}.crt")), self.pem(&format!("{name}.key")));
        ClientCertificate::new(certificate, key).expect("openssl's are usable")
    }
}
