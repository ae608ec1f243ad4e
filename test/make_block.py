"""Makes test/data/block.h: one CLIP block in PyTorch float64, its value, gradients and second derivatives.

    python3 test/make_block.py > test/data/block.h

x2 = block(x);  f = sum(x2 * r);  grad = df/d(x and every weight);  s = sum(df/dx * q);  grad2 = ds/d(the same)
"""
import torch

torch.manual_seed(20)
torch.set_default_dtype(torch.float64)
B, N, D, H, F, EPS = 2, 5, 8, 2, 16, 1e-5
SHAPES = {"x": (B * N, D), "ln1_gamma": (1, D), "ln1_beta": (1, D),
          "q": (D, D), "q_bias": (1, D), "k": (D, D), "k_bias": (1, D), "v": (D, D), "v_bias": (1, D),
          "out": (D, D), "out_bias": (1, D), "ln2_gamma": (1, D), "ln2_beta": (1, D),
          "fc1": (F, D), "fc1_bias": (1, F), "fc2": (D, F), "fc2_bias": (1, D)}


def block(w):
    norm, linear = torch.nn.functional.layer_norm, torch.nn.functional.linear
    x = w["x"].view(B, N, D)
    y = norm(x, (D,), w["ln1_gamma"][0], w["ln1_beta"][0], EPS)
    q, k, v = (linear(y, w[n], w[n + "_bias"][0]).view(B, N, H, D // H).transpose(1, 2) for n in "qkv")
    A = torch.softmax(q @ k.transpose(2, 3) * (D // H) ** -0.5, dim=-1)
    x = x + linear((A @ v).transpose(1, 2).reshape(B, N, D), w["out"], w["out_bias"][0])
    h = linear(norm(x, (D,), w["ln2_gamma"][0], w["ln2_beta"][0], EPS), w["fc1"], w["fc1_bias"][0])
    return x + linear(h * torch.sigmoid(1.702 * h), w["fc2"], w["fc2_bias"][0])


def table(name, tensor):
    numbers = [f"{v:.17g}" for v in tensor.detach().flatten().tolist()]
    lines = [", ".join(numbers[i:i + 5]) for i in range(0, len(numbers), 5)]
    print(f"static const double {name}[] = {{\n    " + ",\n    ".join(lines) + "};")


w = {name: torch.randn(shape) * (0.5 if shape[0] > 1 else 0.2) + ("gamma" in name) for name, shape in SHAPES.items()}
w["x"] = torch.randn(SHAPES["x"])
for t in w.values():
    t.requires_grad_(True)
r, q = torch.randn(B, N, D), torch.randn(B * N, D)
y = block(w)
grad = torch.autograd.grad((y * r).sum(), list(w.values()), create_graph=True)
grad2 = torch.autograd.grad((grad[0] * q).sum(), list(w.values()), allow_unused=True)

print("/* Made by test/make_block.py with PyTorch " + torch.__version__.split("+")[0] + ", float64. */")
print(f"enum {{ BLOCK_BATCH = {B}, BLOCK_TOKENS = {N}, BLOCK_WIDTH = {D}, BLOCK_HEADS = {H}, BLOCK_MLP = {F} }};")
print(f"static const double block_eps = {EPS};")
table("block_r", r)
table("block_q", q)
table("block_y", y)
for (name, t), g, g2 in zip(w.items(), grad, grad2):
    table(f"value_{name}", t)
    table(f"grad_{name}", g)
    table(f"grad2_{name}", torch.zeros_like(t) if g2 is None else g2)
print("static const struct {\n    const char *name;\n    size_t rows, cols;\n    const double *value, *grad, *grad2;\n} "
      "block_params[] = {")
for name, (rows, cols) in SHAPES.items():
    print(f'    {{"{name}", {rows}, {cols}, value_{name}, grad_{name}, grad2_{name}}},')
print("};")
