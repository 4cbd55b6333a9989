//! The closure for further settings must not replace what sessions and trust depend on, at the
//! start or at a reload.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use rustls::{ServerConfig, server::ServerSessionMemoryCache, sign::SingleCertAndKey};
use rustls_reload::Layer;

use super::{
    cert_cache::CertCache,
    count::Count,
    full::clients,
    server::{Provider, Server, Setup, TICKETS},
    sessions::{Kind, Offering},
    world::{BUNDLES, Cert, LEAVES, LISTS, State},
};

/// The change that the closure makes, besides changes that are always allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Does {
    Nothing,
    ReplacesStorage,
    ReplacesTicketer,
    ReplacesResolver,
    /// Replaces the whole configuration, with the served parts that can be read back. Clients are
    /// no longer asked for a certificate.
    ReplacesVerifier,
    AllowsEarlyData,
}

impl Does {
    const ALL: [Self; 6] = [
        Self::Nothing,
        Self::ReplacesStorage,
        Self::ReplacesTicketer,
        Self::ReplacesResolver,
        Self::ReplacesVerifier,
        Self::AllowsEarlyData,
    ];

    fn to(self, config: &mut ServerConfig, cache: &CertCache, provider: &Provider) {
        config.send_tls13_tickets = TICKETS;
        config.alpn_protocols = Vec::new();
        match self {
            Self::Nothing => {}
            Self::ReplacesStorage => config.session_storage = ServerSessionMemoryCache::new(8),
            Self::ReplacesTicketer => config.ticketer = (provider.ticketer)().unwrap(),
            Self::ReplacesResolver => {
                let key = cache.shown(Cert::Good, &provider.crypto);
                config.cert_resolver = Arc::new(SingleCertAndKey::from(key));
            }
            Self::ReplacesVerifier => {
                let mut own = ServerConfig::builder_with_provider(Arc::clone(&provider.crypto))
                    .with_safe_default_protocol_versions()
                    .unwrap()
                    .with_no_client_auth()
                    .with_cert_resolver(Arc::clone(&config.cert_resolver));
                own.session_storage = Arc::clone(&config.session_storage);
                own.ticketer = Arc::clone(&config.ticketer);
                *config = own;
            }
            Self::AllowsEarlyData => config.max_early_data_size = 1,
        }
    }
}

pub fn table(cache: &'static CertCache, provider: &Provider) -> Count {
    let (mut count, clients) = (Count::default(), clients(cache, provider));
    let state = State { bundle: BUNDLES[1], lists: Some(LISTS[6]) };
    let revoked = State { lists: Some(LISTS[7]), ..state };
    // `from` is the first run of the closure that makes the change: the first load, or the reload.
    for (does, from, kind) in Does::ALL
        .into_iter()
        .flat_map(|does| Kind::ALL.into_iter().flat_map(move |kind| [(does, 0, kind), (does, 1, kind)]))
    {
        let what = || format!("{does:?} from run {from}, {kind:?}");
        let setup = Setup { versions: kind.versions(), tickets: kind.tickets(), ..Setup::new(provider) };
        let (runs, seen) = (AtomicUsize::new(0), Arc::new(Mutex::new(Vec::new())));
        let (provider, noted) = (provider.clone(), Arc::clone(&seen));
        let mut server = Server::configured(&setup, move |config| {
            noted.lock().unwrap().push((Arc::clone(&config.session_storage), Arc::clone(&config.ticketer)));
            let does = if runs.fetch_add(1, Ordering::Relaxed) < from { Does::Nothing } else { does };
            does.to(config, cache, &provider);
        });
        let files = [state, state, revoked].into_iter().zip([0, 1, 1]);
        let files: Vec<_> =
            files.map(|(state, leaf)| server.files(cache, &state, &LEAVES[leaf..=leaf])).collect();
        let loaded = server.first(&files[0]);
        (count.combinations, count.loads) = (count.combinations + 1, count.loads + 1);
        count.expect(loaded.is_ok(), does == Does::Nothing || from > 0, what);
        let served = match loaded {
            Ok(whole) => whole.value,
            Err(error) => {
                count.expect(error.layer(), Layer::Config, what);
                continue;
            }
        };
        let offering = Offering::new(&clients[&(Some(Cert::Good), kind.place())], &served, "a.test");
        for (files, goes_on) in [(&files[1], true), (&files[2], false)] {
            let built = server.change(&served, 0, &files[0]);
            count.reloads += 1;
            count.expect(built.is_ok(), does == Does::Nothing, what);
            let seen = seen.lock().unwrap();
            let [first, last] = [&seen[0], &seen[seen.len() - 1]];
            let same = Arc::ptr_eq(&first.0, &last.0) && Arc::ptr_eq(&first.1, &last.1);
            count.expect(same, goes_on, || format!("the state that the closure sees: {}", what()));
            match built {
                Ok(built) => {
                    let found = offering.offer(&built.value, "a.test");
                    (count.offered, count.resumed) =
                        (count.offered + 1, count.resumed + usize::from(found == Ok(true)));
                    count.expect(found, Ok(goes_on), what);
                }
                Err(error) => {
                    count.refused_reloads += 1;
                    count.expect(error.layer(), Layer::Config, what);
                }
            }
            // The sessions of the served configuration are unchanged, whatever the result of the
            // reload.
            count.offered += 1;
            let found = offering.offer(&served, "a.test");
            count.resumed += usize::from(found == Ok(true));
            count.expect(found, Ok(true), || format!("served: {}", what()));
        }
    }
    count
}
