"""Helpers, one a line of `HELPERS`: how it is applied and checked, what it does to the network, and which refusals
are true of which networks. A refusal in other words, or where it does not hold, is a fault."""

from . import combining, masks, rounding, running
from .facts import (
    anything,
    computed,
    emptied,
    frozen,
    half,
    hooked,
    lazy,
    no_images,
    not_sequential,
    several_outputs,
    several_positions,
    tied,
    with_step,
)
from .judging import CHANGES, COPIES, MEASURES, Helper, Refusal

LAZY = Refusal(r"run (the model on one batch|a batch through the model) first", lazy)
COMPUTED = Refusal(r"(parametrized already, by|computed by) .*(bake|remove_masks)\(\) makes", computed)
HOOKS = Refusal(r"has hooks, which.*remove them first", hooked)
ROUNDED = Refusal(r"fake-quantized already.*bake\(\)", with_step("WeightQuantizer", "LearnedStep"))
TRACE = Refusal(r"torch-pruning", anything)
TIED = Refusal(r"one shared tensor", tied)
ENDS = Refusal(r"its channels are the network's (input|output).*leave it out of kept", anything)
MASK = (LAZY, COMPUTED)
LOSES = r"would lose all of its.*ask for less sparsity"
GLOBAL = (*MASK, Refusal(LOSES, emptied(lambda twin, weights: weights)))
TAYLOR = (*MASK, Refusal(r"frozen.*leave it out", frozen), Refusal(r"does not depend.*leave it out", several_outputs))
TAYLOR_MASK = (*TAYLOR, Refusal(LOSES, emptied(masks.taylor_by_hand)))
CUT = (LAZY, TRACE, HOOKS, COMPUTED, TIED, ENDS)
FOLD = (LAZY, COMPUTED)
ROUND = (LAZY, COMPUTED, ROUNDED)
CALIBRATE = (*ROUND, Refusal(r"calibrate the plain one, or bake\(\) it first", with_step("ActivationQuantizer")))
SHARE = (*ROUND, Refusal(r"one tied tensor: name the layers to share.*bits=", tied))
SEQUENCE = Refusal(r"make an nn\.Sequential of them", not_sequential)
PLAIN = Refusal(r"fold_batchnorm\(\) first|activation_bits=8\) first", anything)
EXPORT = Refusal(r"no integer counterpart here: quantize an exported file", anything)
FLOAT = Refusal(r"call integer_network\(model\.float\(\)\)", half)
GROUPS = Refusal(r"only convolutions without groups", anything)
INTEGER = (LAZY, HOOKS, SEQUENCE, PLAIN, EXPORT, GROUPS, FLOAT)
AVERAGE = (LAZY, Refusal(r"computed by .*bake\(\) makes", computed))
HALF = Refusal(r"keep it in float32", half)
FOLLOW = Refusal(r"units cannot be followed through.*git-re-basin", anything)
FACTORIZE = (LAZY, HOOKS, Refusal(r"hooks, which two layers would lose: remove them first", hooked))
FACTORIZE += (Refusal(r"cannot be factorized: give", anything),)
UPDATE = (*AVERAGE, Refusal(r"are one tied tensor: give each", tied))
SAVE = (Refusal(r"\.architecture", anything),)
RUN = (LAZY, Refusal(r"output=", several_outputs))
SHARED = Refusal(r"share .*copy\.deepcopy", lambda twin: twin.kind.teacher is not None)
DISTILL = (*RUN, SHARED)
PICTURES = Refusal(r"images must (be a floating-point tensor|have shape)", no_images)
ATTACK = (*RUN, PICTURES)
EXPLAIN = (*RUN, Refusal(r"must be a floating-point tensor", no_images))
EXPLAIN += (Refusal(r"one row \(N, C\) per image", several_positions),)

HELPERS = [
    Helper("layer masks", *masks.LAYER, CHANGES, MASK),
    Helper("global masks", *masks.GLOBAL, CHANGES, GLOBAL, like="layer masks"),
    Helper("random masks", *masks.RANDOM, CHANGES, MASK, like="layer masks"),
    Helper("2:4 masks", *masks.TWO_OF_FOUR, CHANGES, MASK, like="layer masks"),
    Helper(
        "Taylor masks",
        *masks.TAYLOR,
        CHANGES,
        TAYLOR_MASK,
        like="layer masks",
    ),
    Helper("masks by name", *masks.BY_NAME, CHANGES, MASK),
    Helper("remove_masks", *masks.REMOVE, CHANGES, MASK, after="layer masks"),
    Helper("masks_of", *masks.FOUND, MEASURES, MASK, after="layer masks"),
    Helper("snapshot, rewind", *masks.REWIND, CHANGES, MASK),
    Helper("lottery ticket", *masks.TICKET, CHANGES, MASK),
    Helper("sparsity", *masks.SPARSITY, CHANGES, MASK, like="nothing"),
    Helper("layer_sparsities", *masks.LAYERS, CHANGES, MASK, like="nothing"),
    Helper("sensitivity_scan", *masks.SCAN, MEASURES, MASK),
    Helper("taylor_scores", *masks.SCORES, MEASURES, TAYLOR),
    Helper("mask_filters", *masks.EMPTY, COPIES, CUT),
    Helper("prune_filters", *masks.CUT, COPIES, CUT),
    Helper("channel_scores", *masks.CHANNELS, MEASURES, CUT),
    Helper("fold_batchnorm", *rounding.FOLD, COPIES, FOLD),
    Helper("4 bits", *rounding.FOUR, COPIES, ROUND),
    Helper("8 bits", *rounding.EIGHT, COPIES, ROUND, like="4 bits"),
    Helper("learned step", *rounding.LEARNED, COPIES, ROUND),
    Helper("8-bit activations", *rounding.ACTIVATIONS, COPIES, CALIBRATE),
    Helper("8-bit outputs", *rounding.OUTPUTS, COPIES, CALIBRATE),
    Helper("bake", *rounding.BAKE, COPIES, after="8-bit activations"),
    Helper("integer_network", *rounding.INTEGERS, MEASURES, INTEGER, after="fold_batchnorm > 8-bit activations"),
    Helper("calibrate", *rounding.CALIBRATE, MEASURES, CALIBRATE),
    Helper("bit_sensitivity", *rounding.BITS, MEASURES, ROUND),
    Helper("share_model", *rounding.SHARE, COPIES, SHARE),
    Helper("moving_average", *combining.MOVE, CHANGES, (*AVERAGE, HALF), like="nothing"),
    Helper("masked moving_average", *combining.MOVE, CHANGES, (*GLOBAL, HALF), after="layer masks", like="nothing"),
    Helper("average_models", *combining.MEAN, COPIES, AVERAGE, like="nothing"),
    Helper("reset_batchnorm", *combining.RESET, CHANGES, (LAZY,), like="nothing"),
    Helper("align", *combining.ALIGN, COPIES, (*AVERAGE, HOOKS, TIED, FOLLOW), like="nothing"),
    Helper("factorize", *combining.FACTORS, MEASURES, FACTORIZE, like="nothing"),
    Helper("LoRA", *combining.LORA, CHANGES, UPDATE, like="nothing"),
    Helper("masked LoRA", *combining.LORA, CHANGES, (*MASK, *UPDATE), after="layer masks", like="nothing"),
    Helper("rounded LoRA", *combining.LORA, CHANGES, (*ROUND, *UPDATE), after="4 bits", like="nothing"),
    Helper("count_macs", *running.MACS, MEASURES, RUN),
    Helper("predict", *running.PREDICT, MEASURES, RUN),
    Helper("evaluate", *running.EVALUATE, MEASURES, RUN),
    Helper("pgd_attack", *running.ATTACK, MEASURES, ATTACK),
    Helper("margin attack", *running.ATTACK_MARGIN, MEASURES, ATTACK, like="pgd_attack"),
    Helper("integrated_gradients", *running.EXPLAIN, MEASURES, EXPLAIN, like="pgd_attack"),
    Helper("occlusion", *running.COVER, MEASURES, (*EXPLAIN, PICTURES), like="pgd_attack"),
    Helper("fit", *running.FIT, CHANGES, RUN),
    Helper("distill", *running.DISTILL, CHANGES, DISTILL),
    Helper("distill from it", *running.TEACH, MEASURES, RUN),
    Helper("outputs_of", *running.OUTPUTS, MEASURES, like="nothing"),
    Helper("distill with a hint", *running.HINT, CHANGES, DISTILL, like="distill"),
    Helper("save, load", *running.SAVE, COPIES, SAVE),
    Helper("to_onnx", *running.EXPORT, MEASURES, RUN),
]
BY_NAME = {helper.name: helper for helper in HELPERS}
