package bench;

import anabranch.ExposureRef;
import anabranch.TurnMetric;
import java.util.HashMap;
import java.util.Map;
import org.apache.avro.util.Utf8;

/** Count, sums and sum of squares by minute, experiment, variation and locale. */
final class Sums {
  private static final class Sum {
    long n;
    long turnMs;
    long turnMsSquared;
    long outputTokens;
  }

  /** Looked up with texts that the next event overwrites; kept with copies. */
  private record Group(long minute, Utf8 experiment, Utf8 variation, Utf8 locale) {
    Group kept() {
      return new Group(minute, new Utf8(experiment), new Utf8(variation), new Utf8(locale));
    }
  }

  private final Map<Group, Sum> sums = new HashMap<>();

  void add(TurnMetric event) {
    long minute = Math.floorDiv(event.getTs().toEpochMilli(), 60_000);
    long turnMs = event.getTurnMs();
    for (ExposureRef exposure : event.getExposures()) {
      Group group =
          new Group(
              minute,
              (Utf8) exposure.getExperiment(),
              (Utf8) exposure.getVariation(),
              (Utf8) event.getLocale());
      Sum sum = sums.get(group);
      if (sum == null) {
        sum = new Sum();
        sums.put(group.kept(), sum);
      }
      sum.n++;
      sum.turnMs += turnMs;
      sum.turnMsSquared += turnMs * turnMs;
      sum.outputTokens += event.getOutputTokens();
    }
  }

  /** As rows of `turn_windows`; empty afterwards. */
  byte[] taken() {
    RowBinary rows = new RowBinary(1_024);
    sums.forEach(
        (group, sum) -> {
          rows.number((int) (group.minute * 60));
          rows.text(group.experiment);
          rows.text(group.variation);
          rows.text(group.locale);
          rows.number(sum.n);
          rows.number(sum.turnMs);
          rows.number(sum.turnMsSquared);
          rows.number(sum.outputTokens);
        });
    sums.clear();
    return rows.taken();
  }
}
