//! Tests of the options.

use super::*;

/// Δ = 1 s, β = 1, one second before its end: P(−ln r ≥ 1) = 1/e.
#[test]
fn early_refresh_is_as_likely_as_the_paper_says() {
    let mut random = fastrand::Rng::with_seed(7);
    let early =
        (0..100_000).filter(|_| is_early(1_000.0, 1_000_000, 1.0, 1.0 - random.f64())).count();
    let part = early as f64 / 100_000.0;
    assert!((0.363..0.373).contains(&part), "{part}, and not 0.368");
}

/// The limits of beta: 0 never refreshes early, infinity always does.
#[test]
fn the_ends_of_beta() {
    let mut options = Options::default();
    let meta = WritePlan { kept: Expiry::Never, meta: Meta::new(1, 5_000_000) }.meta;
    for (beta, expected) in [(0.0, false), (f64::INFINITY, true)] {
        options.early_refresh(beta);
        options.check().unwrap();
        assert!((0..1_000).all(|_| options.is_early(&meta, 1) == expected), "{beta}");
    }
    for beta in [-1.0, -0.001, f64::NEG_INFINITY, f64::NAN] {
        options.early_refresh(beta);
        assert!(options.inspects_hits() && options.check().is_err(), "{beta}");
    }
}

#[test]
fn what_cannot_be_is_refused() {
    for fraction in [0.0, -0.5, 1.01, f64::NAN, f64::INFINITY] {
        let mut options = Options::default();
        options.refresh_ahead(fraction);
        assert!(options.inspects_hits() && options.check().is_err(), "{fraction}");
    }
    for jitter in [-0.1, f64::NAN, f64::INFINITY] {
        let mut options = Options::default();
        options.jitter(jitter);
        assert!(options.inspects_hits() && options.check().is_err(), "{jitter}");
    }
}

/// Jitter only lengthens, and zero stays zero.
#[test]
fn jitter_spreads_and_saturates() {
    let mut options =
        Options { expiry: Expiry::After(Duration::from_secs(10)).into(), ..Options::default() };
    options.jitter(0.5);
    let lasting =
        |options: &Options| match options.plan_write(Lifetime::default(), Duration::ZERO).kept {
            Expiry::After(lasting) => lasting.as_secs_f64(),
            other => panic!("{other:?}"),
        };
    let all: Vec<f64> = (0..1_000).map(|_| lasting(&options)).collect();
    assert!(all.iter().all(|lasting| (10.0..=15.0).contains(lasting)));
    let mean = all.iter().sum::<f64>() / 1_000.0;
    assert!((12.2..12.8).contains(&mean), "not uniform: {mean}");
    options.expiry = Expiry::After(Duration::MAX).into();
    assert_eq!(
        options.plan_write(Lifetime::default(), Duration::ZERO).kept,
        options.expiry.get(),
        "for ever stays for ever"
    );
    options.expiry = Expiry::After(Duration::from_secs(900 * 365 * 86_400)).into();
    options.jitter(1e30);
    options.plan_write(Lifetime::default(), Duration::ZERO);
}

#[test]
fn a_url_says_what_code_leaves_unsaid() {
    let mut url = CacheUrl::parse(
        "x:?stale_for=1h&soft_timeout=1s&hard_timeout=2s&throttle=3s&lease=4s&refresh_ahead=0.5&early_refresh=2&jitter=0.1&skip_none=on&allow_stale=true&force_refresh=false",
    )
    .unwrap();
    let said = Options::take(&mut url).unwrap();
    url.finish().unwrap();
    let merged = Options::default().or(&said);
    assert_eq!(merged, said);
    assert_eq!(merged.keeps_for(), Some(Duration::from_secs(3600)));
    assert_eq!(merged.throttle_for(), Duration::from_secs(3));
    assert_eq!((merged.early, merged.jitter, merged.refresh_ahead), (2.0, 0.1, 0.5));
    assert!(merged.skip_none && merged.allow_stale && !merged.force_refresh && merged.fail_open);

    let mut code = Options { expiry: Expiry::Never.into(), fail_open: false, ..Options::default() };
    code.stale_for(Duration::ZERO);
    code.lease(Duration::ZERO);
    code.jitter(0.0);
    code.early_refresh(0.0);
    code.refresh_ahead(1.0);
    code.throttle(Duration::from_secs(9));
    let merged = code.or(&said);
    assert_eq!((merged.keeps_for(), merged.lease_for()), (None, None));
    assert_eq!((merged.early, merged.jitter, merged.refresh_ahead), (0.0, 0.0, 1.0));
    assert_eq!(merged.throttle_for(), Duration::from_secs(9));
    assert!(merged.expiry.get() == Expiry::Never && !merged.fail_open);
    assert_eq!(Options::default().or(&Options::default()), Options::default());
}

#[test]
fn options_stay_small() {
    assert!(size_of::<Options>() <= 80, "{}", size_of::<Options>());
}
