"""The ALOE reasoner, its data and its metrics, and the clips and frames of the published encoders."""

import re

import numpy as np
import torch
from torch import Tensor

from golden import Golden
from ocwm_tasks.clevrer.accuracy import Outcome, figures, published_report
from ocwm_tasks.clevrer.aloe.batches import AloeData, VideoLatents
from ocwm_tasks.clevrer.aloe.network import Aloe, AloeBatch, AloeSizes
from ocwm_tasks.clevrer.aloe.tokens import DESCRIPTIVE, QUESTION_TYPES, UNKNOWN, FrameChoice, encode_questions
from ocwm_tasks.clevrer.clips import clip_starts
from ocwm_tasks.clevrer.preprocess import preprocess


def check_aloe_forward(golden: Golden) -> None:
    config = golden.config
    sizes = AloeSizes(
        frames=config["frames"],
        num_slots=config["num_slots"],
        slot_dim=config["slot_size"],
        head_dim=config["input_dim"] + 2,
        heads=config["num_heads"],
        layers=config["num_layers"],
        ffn_dim=config["ffn_dim"],
        mlp_dim=config["cls_mlp_size"],
        words=config["question_vocab_size"],
        answers=config["answer_vocab_size"],
        question_len=config["question_len"],
        choice_len=config["choice_len"],
    )
    network = Aloe(sizes).eval()
    network.load_state_dict(golden.weights)
    batch = _mixed_batch(golden, sizes)
    asked = int((~batch.is_choice).sum())
    with torch.no_grad():
        answers, choices = network(batch)
        losses = network.loss(batch)
    golden.compare("out.cls_answer_logits", answers[:asked])
    golden.compare("out.mc_answer_logits", choices[asked:])
    golden.compare("out.cls_answer_loss", losses["answer_loss"])
    golden.compare("out.mc_answer_loss", losses["choice_loss"])

    flag, subtype = golden["in.mc_flag"].long(), golden["in.mc_subtype"]
    prediction = torch.cat([answers[:asked].argmax(dim=-1), (choices[asked:] > 0).long()])
    outcome = Outcome(
        scene=np.zeros(len(batch), dtype=np.int64),
        question_id=torch.cat([torch.arange(asked), asked + flag]).numpy(),
        choice_id=torch.where(batch.is_choice, 0, UNKNOWN).numpy(),
        type=torch.cat([torch.full((asked,), DESCRIPTIVE), subtype[flag]]).numpy(),
        label=batch.label.numpy(),
        prediction=prediction.numpy(),
    )
    found = figures(outcome)
    ours: dict[str, float] = {}
    for name, key in [(name, name) for name in QUESTION_TYPES] + [("multiple-choice", "multiple_choice")]:
        items = found.get(f"{key}.per_question")
        ours[f"{name}_acc"] = items.share() if items else 0.0
        ours[f"{name}_bs"] = len(items.right) if items else 0
    golden.compare("eval_metrics", ours, golden.meta["eval_metrics"])


def _mixed_batch(golden: Golden, sizes: AloeSizes) -> AloeBatch:
    """The vector's batch as one row for each sequence, CLS first, padding where the vector has it."""
    asked = len(golden["in.cls_label"])
    tokens = torch.cat([golden["in.cls_q_tokens"], golden["in.mc_q_tokens"]]).long()
    padding = torch.cat([golden["in.cls_q_pad_mask"], golden["in.mc_q_pad_mask"]])
    is_choice = torch.arange(len(tokens)) >= asked
    columns = torch.arange(tokens.shape[1]).expand_as(tokens)

    def with_cls(x: Tensor, value: int) -> Tensor:
        return torch.nn.functional.pad(x, (1, 0), value=value)

    return AloeBatch(
        video=torch.cat([golden["in.cls_video_emb"], golden["in.mc_video_emb"]]),
        window=torch.cat([torch.arange(asked), asked + golden["in.mc_flag"].long()]),
        tokens=with_cls(tokens, 0),
        position=with_cls(columns + 1, 0),
        choice_segment=with_cls(~is_choice[:, None] | (columns >= sizes.question_len), 0),
        owner=with_cls(torch.where(padding, UNKNOWN, 0), 0),
        cls=torch.zeros(len(tokens), 1, dtype=torch.int64),
        sequence=torch.arange(len(tokens)),
        is_choice=is_choice,
        label=torch.cat([golden["in.cls_label"], golden["in.mc_label"].long()]),
    )


def check_aloe_data(golden: Golden) -> None:
    meta = golden.meta
    lengths = meta["max_question_len"], meta["max_choice_len"]
    questions = encode_questions(meta["questions"], question_len=lengths[0], choice_len=lengths[1])
    asked = ~questions.is_choice
    chosen = questions.type != DESCRIPTIVE
    golden.compare("out.scene_index", questions.scene)
    golden.compare("out.question_id", questions.question_id)
    golden.compare("out.cls_q_tokens", questions.tokens[asked])
    golden.compare("out.cls_q_pad_mask", questions.tokens[asked] == 0)
    golden.compare("out.cls_label", questions.label[asked])
    golden.compare("out.mc_subtype", questions.type[chosen])
    golden.compare("out.mc_q_tokens", questions.tokens[~asked])
    golden.compare("out.mc_q_pad_mask", questions.tokens[~asked] == 0)
    golden.compare("out.mc_label", questions.label[~asked])
    golden.compare("out.mc_flag", questions.question[~asked] - int((~chosen).sum()))
    golden.compare("out.mc_choice_id", questions.choice_id[~asked])
    order = [
        [int(scene), int(number), int(kind != DESCRIPTIVE), int(kind)]
        for scene, number, kind in zip(questions.scene, questions.question_id, questions.type, strict=True)
    ]
    golden.compare("dataset_order", order, meta["dataset_order"])

    choice = FrameChoice(meta["n_sample_frames"])
    longest = max(meta["slot_lengths"])
    low, high = meta["start_idx_range"]
    golden.compare("start_idx_range", [0, choice.starts(longest) - 1], [low, high])
    scenes = [scene["scene_index"] for scene in meta["questions"]]
    videos = []
    for row, start in enumerate(golden["in.start_idx"].numpy()):
        video = scenes.index(int(questions.scene[row]))
        length = meta["slot_lengths"][video]
        shifted = np.array([questions.type[row] == QUESTION_TYPES.index("predictive")])
        frames = choice.frames(start[None], shifted, length=length)[0]
        golden.compare(f"frame_offset[{row}]", np.diff(frames), np.full(len(frames) - 1, meta["frame_offset"]))
        videos.append(_slots(video, frames))
    values = np.stack(videos)
    golden.compare("out.cls_video_emb", values[~chosen])
    golden.compare("out.mc_video_emb", values[chosen])

    # What a training batch holds must be the same text, only without the padding between the words.
    latents = VideoLatents(
        np.array(scenes), np.stack([_slots(video, np.arange(longest)) for video in range(len(scenes))])
    )
    data = AloeData(questions, latents, frame_choice=choice)
    batch = data.batch(np.arange(len(data)), np.random.default_rng(0))
    for row, sequence in enumerate(batch.sequence.tolist()):
        words = batch.owner[row] >= 0
        column = batch.position[row][words][1:] - 1
        golden.compare(f"words[{sequence}]", batch.tokens[row][words][1:], questions.tokens[sequence][column.numpy()])
        golden.compare(f"count[{sequence}]", int(words.sum()) - 1, int((questions.tokens[sequence] != 0).sum()))


def _slots(video: int, frames: np.ndarray) -> np.ndarray:
    """The vector's made-up slots, 2 of width 2: 1000 video + t + 0.1 n + 0.01 c."""
    n, c = np.arange(2, dtype=np.float32)[:, None], np.arange(2, dtype=np.float32)
    whole = (1000 * video + frames).astype(np.float32)[:, None, None]
    return whole + np.float32(0.1) * n + np.float32(0.01) * c


def check_aloe_metrics(golden: Golden) -> None:
    for number, example in enumerate(golden.meta["examples"]):
        report = published_report(example["answers"], example["predictions"])
        golden.compare(f"examples[{number}].report", list(report.lines), example["report"])
        golden.compare(f"examples[{number}].invalid", [f"invalid Q&A pairs: {report.invalid}"], example["invalid"])
        if _well_formed(example):
            _check_by_ids(golden, number, example)


def _well_formed(example: dict) -> bool:
    """Whether every question is answered exactly once, so that going by ids and by position is the same."""
    shapes = []
    for key in ("answers", "predictions"):
        shapes.append(
            [
                (scene["scene_index"], q["question_id"], tuple(c["choice_id"] for c in q.get("choices", ())))
                for scene in example[key]
                for q in scene["questions"]
            ]
        )
    return shapes[0] == shapes[1]


def _check_by_ids(golden: Golden, number: int, example: dict) -> None:
    """Our own accuracies, by ids, count the same on an answer file without flaws."""
    truth, said = encode_questions(example["answers"]), _answered(example)
    found = figures(Outcome.of(truth, encode_questions(said).label))
    keys = {"descriptive accuracy": "descriptive.per_question", "Overall accuracy": "average.per_question"}
    for line in example["report"]:
        label, right, total = re.fullmatch(r"(.*): [\d.]+% \((\d+)/(\d+)\)", line).groups()
        key = keys.get(label, label.replace(" accuracy per ", ".per_"))
        counts = [int(found[key].right.sum()), len(found[key].right)] if key in found else [0, 0]
        golden.compare(f"examples[{number}] by ids, {label}", counts, [int(right), int(total)])


def _answered(example: dict) -> list[dict]:
    """The true question scenes with the predicted answers in them."""
    scenes = []
    for scene, given in zip(example["answers"], example["predictions"], strict=True):
        questions = []
        for question, answer in zip(scene["questions"], given["questions"], strict=True):
            if "choices" in question:
                choices = [
                    {**choice, "answer": said["answer"]}
                    for choice, said in zip(question["choices"], answer["choices"], strict=True)
                ]
                questions.append({**question, "choices": choices})
            else:
                questions.append({**question, "answer": answer["answer"]})
        scenes.append({**scene, "questions": questions})
    return scenes


def check_clevrer_clips(golden: Golden) -> None:
    for number, case in enumerate(golden.meta["cases"]):
        starts = clip_starts(
            case["split"],
            video_length=case["video_len"],
            length=case["n_sample_frames"],
            stride=case["frame_offset"],
            history=case["warmup_len"],
            entries=case["enter_frames"] if case["filter_enter"] else None,
        )
        golden.compare(f"cases[{number}].starts", starts, case["starts"])


def check_clevrer_preproc(golden: Golden) -> None:
    frame, size = golden["in.frame_uint8_chw"], tuple(golden.config["out"])
    golden.compare("out.no_antialias", preprocess(frame, size=size, antialias=False))
    golden.compare("out.antialias", preprocess(frame, size=size, antialias=True))


CHECKS = {
    "aloe_forward": check_aloe_forward,
    "aloe_data": check_aloe_data,
    "aloe_metrics": check_aloe_metrics,
    "clevrer_clips": check_clevrer_clips,
    "clevrer_preproc": check_clevrer_preproc,
}
